package kubejwtprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubejwt/kubejwt/revocation"
)

// A WatchCollector shows the Stats of one [revocation.Watcher]. Make it with
// [NewWatchCollector]: a zero one can't be registered. For several Watchers in one process,
// register each with [prometheus.WrapRegistererWith] and a label that tells them apart. It
// is safe for concurrent use by multiple goroutines.
type WatchCollector struct {
	watcher *revocation.Watcher

	pods, accounts, gone, asOf, failing *prometheus.Desc
	lists, events, failures             *prometheus.Desc
}

// NewWatchCollector returns a WatchCollector for w. If w is nil, the WatchCollector
// can't be registered. It asks w for its Stats at each scrape, which does no I/O.
func NewWatchCollector(w *revocation.Watcher) *WatchCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("kubejwt_watch_"+name, help, nil, nil)
	}
	return &WatchCollector{
		watcher:  w,
		pods:     desc("pods", "Watched pods that exist."),
		accounts: desc("service_accounts", "Watched service accounts that exist."),
		gone:     desc("gone_objects", "Deletions that are remembered."),
		asOf:     desc("as_of_timestamp_seconds", "Deletions before this time are known."),
		failing:  desc("failing", "1 if a stream is down, otherwise 0."),
		lists:    desc("lists_total", "Complete lists that were read."),
		events:   desc("events_total", "Events of the streams, bookmarks included."),
		failures: desc("failures_total", "Streams that ended, and attempts to open one that failed."),
	}
}

// Describe implements [prometheus.Collector].
func (c *WatchCollector) Describe(descs chan<- *prometheus.Desc) {
	if c == nil || c.watcher == nil {
		descs <- notMade("a WatchCollector comes from NewWatchCollector, with a Watcher that is not nil")
		return
	}
	for _, desc := range []*prometheus.Desc{
		c.pods, c.accounts, c.gone, c.asOf, c.failing, c.lists, c.events, c.failures,
	} {
		descs <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c *WatchCollector) Collect(metrics chan<- prometheus.Metric) {
	if c == nil || c.watcher == nil {
		return
	}
	stats := c.watcher.Stats()
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	counter := func(desc *prometheus.Desc, value uint64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value))
	}
	gauge(c.pods, float64(stats.Pods))
	gauge(c.accounts, float64(stats.ServiceAccounts))
	gauge(c.gone, float64(stats.Gone))
	if !stats.AsOf.IsZero() {
		gauge(c.asOf, seconds(stats.AsOf))
	}
	failing := 0.0
	if stats.LastError != nil {
		failing = 1
	}
	gauge(c.failing, failing)
	counter(c.lists, stats.Lists)
	counter(c.events, stats.Events)
	counter(c.failures, stats.Failures)
}
