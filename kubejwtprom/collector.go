// Package kubejwtprom shows Prometheus what a kubejwt.Verifier does and knows.
//
//	verdicts := kubejwtprom.NewVerdicts()
//	v, err := kubejwt.InCluster(kubejwt.Config{…, OnVerdict: verdicts.For("data-store")})
//	…
//	prometheus.MustRegister(kubejwtprom.NewCollector(v), verdicts)
//
// A [Collector] reads [kubejwt.Verifier.Stats] when it is scraped: the keys,
// the fetches, the remembered tokens, and how many tokens were judged. A
// [Verdicts] counts each verdict when it is given, by policy, including requests
// without a token. Either can be used without the other.
package kubejwtprom

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubejwt/kubejwt"
)

// A Collector shows the Stats of one Verifier. Make it with [NewCollector]: a zero
// one can't be registered. For several Verifiers in one process, register each with
// [prometheus.WrapRegistererWith] and a label that tells them apart. It is safe for
// concurrent use by multiple goroutines.
type Collector struct {
	verifier *kubejwt.Verifier
	now      func() time.Time

	keys, keysAge, keysFetchedAt, keysStaleAt *prometheus.Desc
	fetches, fetchCauses, throttled, failing  *prometheus.Desc
	tokens, remembered, rememberedHits        *prometheus.Desc
}

// NewCollector returns a Collector for v and the copies that share its keys.
// It asks v for its Stats at each scrape, which does no I/O. If v is nil, the
// Collector can't be registered.
func NewCollector(v *kubejwt.Verifier) *Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("kubejwt_"+name, help, labels, nil)
	}
	c := &Collector{verifier: v, now: time.Now}
	c.keys = desc("keys", "Public keys in use.")
	c.keysAge = desc("keys_age_seconds",
		"Time since the keys were fetched or their file was last read without an error.")
	c.keysFetchedAt = desc("keys_fetched_timestamp_seconds",
		"When the keys were last fetched, or their file was last read without an error.")
	c.keysStaleAt = desc("keys_stale_timestamp_seconds",
		"When the keys stop being trusted unless they are refreshed before.")
	c.fetches = desc("key_fetches_total", "Fetches of keys that have ended.", "result")
	c.fetchCauses = desc("key_fetch_causes_total", "What set off the fetches of keys that have ended.", "cause")
	c.throttled = desc("key_fetches_throttled_total",
		"Fetches for an unknown key that were not made, because the last one was too recent.")
	c.failing = desc("key_fetch_failing", "1 if the last fetch of keys or look at their file failed, otherwise 0.")
	c.tokens = desc("tokens_total", "Tokens judged, by outcome.", "outcome")
	c.remembered = desc("remembered_tokens", "Verified tokens in memory.")
	c.rememberedHits = desc("remembered_hits_total",
		"Tokens whose signature needed no check, because they were remembered.")
	return c
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	if c == nil || c.verifier == nil {
		descs <- notMade("a Collector comes from NewCollector, with a Verifier that is not nil")
		return
	}
	for _, desc := range []*prometheus.Desc{
		c.keys, c.keysAge, c.keysFetchedAt, c.keysStaleAt,
		c.fetches, c.fetchCauses, c.throttled, c.failing,
		c.tokens, c.remembered, c.rememberedHits,
	} {
		descs <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	if c == nil || c.verifier == nil {
		return
	}
	stats := c.verifier.Stats()
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}

	gauge(c.keys, float64(len(stats.KeyIDs)))
	if !stats.FetchedAt.IsZero() {
		gauge(c.keysAge, c.now().Sub(stats.FetchedAt).Seconds())
		gauge(c.keysFetchedAt, seconds(stats.FetchedAt))
	}
	if !stats.StaleAt.IsZero() {
		gauge(c.keysStaleAt, seconds(stats.StaleAt))
	}
	failing := 0.0
	if stats.LastError != nil {
		failing = 1
	}
	gauge(c.failing, failing)

	counter(c.fetches, stats.Fetches-stats.FetchFailures, "success")
	counter(c.fetches, stats.FetchFailures, "failure")
	counter(c.fetchCauses, stats.UnknownKeyFetches, "unknown_key")
	counter(c.fetchCauses, stats.Fetches-min(stats.Fetches, stats.UnknownKeyFetches), "schedule")
	counter(c.throttled, stats.UnknownKeyThrottled)

	gauge(c.remembered, float64(stats.Remembered))
	counter(c.rememberedHits, stats.RememberedHits)
	counter(c.tokens, stats.Accepted, "accepted")
	counter(c.tokens, stats.NotAllowed, "not_allowed")
	counter(c.tokens, stats.KeysUnavailable, "keys_unavailable")
	counter(c.tokens, stats.Undecided, "undecided")
	for _, reason := range reasons() {
		counter(c.tokens, stats.Refused[reason], string(reason))
	}
}

// notMade makes Register return an error. A panic could not be recovered: Register calls
// Describe in a goroutine of its own.
func notMade(says string) *prometheus.Desc {
	return prometheus.NewInvalidDesc(errors.New("kubejwtprom: " + says))
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
