package kubejwtprom

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubejwt/kubejwt"
)

// Verdicts counts verdicts by policy and outcome, as kubejwt_verdicts_total. An
// outcome is what [kubejwt.Outcome] calls it. Make it with [NewVerdicts], and
// register it. A zero Verdicts counts nothing and can't be registered. It is safe
// for concurrent use by multiple goroutines.
type Verdicts struct{ counts *prometheus.CounterVec }

// NewVerdicts returns a Verdicts that has counted nothing.
func NewVerdicts() *Verdicts {
	return &Verdicts{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubejwt_verdicts_total",
		Help: "Verdicts on requests, by policy and outcome.",
	}, []string{"policy", "outcome"})}
}

// For returns a function that counts verdicts under a policy, which is a name of
// your choice. Use it as [kubejwt.Config.OnVerdict] or, for one route, with
// [kubejwt.Verifier.WithOnVerdict]. All outcomes of the policy start at 0, so
// that Prometheus sees the first one as an increase.
func (m *Verdicts) For(policy string) func(context.Context, kubejwt.Claims, error) {
	if m == nil || m.counts == nil {
		return func(context.Context, kubejwt.Claims, error) {}
	}
	for _, outcome := range outcomes() {
		m.counts.WithLabelValues(policy, outcome)
	}
	accepted := m.counts.WithLabelValues(policy, kubejwt.Outcome(nil))
	return func(_ context.Context, _ kubejwt.Claims, err error) {
		if err == nil {
			accepted.Inc()
			return
		}
		m.counts.WithLabelValues(policy, kubejwt.Outcome(err)).Inc()
	}
}

// Forget removes the counts of a policy that no longer exists.
func (m *Verdicts) Forget(policy string) {
	if m == nil || m.counts == nil {
		return
	}
	m.counts.DeletePartialMatch(prometheus.Labels{"policy": policy})
}

// Describe implements [prometheus.Collector].
func (m *Verdicts) Describe(descs chan<- *prometheus.Desc) {
	if m == nil || m.counts == nil {
		descs <- notMade("a Verdicts comes from NewVerdicts")
		return
	}
	m.counts.Describe(descs)
}

// Collect implements [prometheus.Collector].
func (m *Verdicts) Collect(metrics chan<- prometheus.Metric) {
	if m == nil || m.counts == nil {
		return
	}
	m.counts.Collect(metrics)
}

// outcomes are the words that kubejwt.Outcome returns for errors of the library.
func outcomes() []string {
	all := []string{
		kubejwt.Outcome(nil),
		kubejwt.Outcome(kubejwt.ErrNoToken),
		kubejwt.Outcome(&kubejwt.NotAllowedError{}),
		kubejwt.Outcome(kubejwt.ErrKeysUnavailable),
		kubejwt.Outcome(kubejwt.ErrUndecided),
	}
	for _, reason := range reasons() {
		all = append(all, string(reason))
	}
	return all
}

func reasons() []kubejwt.Reason {
	return []kubejwt.Reason{
		kubejwt.ReasonMalformed,
		kubejwt.ReasonTooLarge,
		kubejwt.ReasonBadAlgorithm,
		kubejwt.ReasonUnknownKey,
		kubejwt.ReasonBadSignature,
		kubejwt.ReasonWrongIssuer,
		kubejwt.ReasonWrongAudience,
		kubejwt.ReasonExpired,
		kubejwt.ReasonNotYetValid,
		kubejwt.ReasonLifetimeTooLong,
		kubejwt.ReasonStale,
		kubejwt.ReasonLegacy,
		kubejwt.ReasonRevoked,
		kubejwt.ReasonNotAServiceAccount,
		kubejwt.ReasonNotBound,
	}
}
