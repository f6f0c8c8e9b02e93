package main

import (
	"runtime/debug"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/kubejwt/kubejwt/kubejwtprom"
)

// metrics are what /metrics shows.
type metrics struct {
	registry *prometheus.Registry
	verdicts *kubejwtprom.Verdicts
	seconds  prometheus.Histogram
	// linesLost are those of the access log.
	linesLost prometheus.Counter

	reloads  *prometheus.CounterVec // by result; nil without a policy file
	usable   prometheus.Gauge
	usableAt prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		verdicts: kubejwtprom.NewVerdicts(),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kubejwt_verdict_duration_seconds",
			Help:    "How long verdicts took. Those over a millisecond waited for keys.",
			Buckets: []float64{5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, .1, .5, 2.5, 10},
		}),
		linesLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubejwt_access_log_lines_lost_total",
			Help: "Lines of the access log that standard output did not take.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubejwt_config_reloads_total",
			Help: "Changes of the policy file that were read, by result.",
		}, []string{"result"}),
		usable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kubejwt_config_last_reload_successful",
			Help: "1 if the policy file can be used, 0 if the last good one is in use instead.",
		}),
		usableAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kubejwt_config_last_reload_success_timestamp_seconds",
			Help: "When the policy in use was read.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubejwt_build_info", Help: "The build that runs: always 1.", ConstLabels: buildLabels(),
	})
	build.Set(1)
	m.registry.MustRegister(m.verdicts, m.seconds, m.linesLost, m.reloads, m.usable, m.usableAt, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, result := range []string{"success", "failure"} {
		m.reloads.WithLabelValues(result)
	}
	m.usable.Set(1)
	m.usableAt.SetToCurrentTime()
	return m
}

func buildLabels() prometheus.Labels {
	labels := prometheus.Labels{"version": "unknown", "goversion": "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		labels["version"], labels["goversion"] = info.Main.Version, info.GoVersion
	}
	return labels
}

// watch shows the Stats of a judge's members, whichever judge is in use.
func (m *metrics) watch(judge *atomic.Pointer[judge]) {
	m.registry.MustRegister(&memberCollector{judge})
}

// memberCollector describes nothing in advance, because members come and go.
type memberCollector struct{ judge *atomic.Pointer[judge] }

func (c *memberCollector) Describe(chan<- *prometheus.Desc) {}

func (c *memberCollector) Collect(metrics chan<- prometheus.Metric) {
	judge := c.judge.Load()
	for _, member := range judge.members {
		labels := prometheus.Labels{"issuer": member.issuer, "audience": member.audiences}
		prometheus.WrapCollectorWith(labels, kubejwtprom.NewCollector(member.verifier)).Collect(metrics)
	}
	for _, w := range judge.watches {
		labels := prometheus.Labels{"issuer": w.issuer}
		prometheus.WrapCollectorWith(labels, kubejwtprom.NewWatchCollector(w.watcher)).Collect(metrics)
	}
}
