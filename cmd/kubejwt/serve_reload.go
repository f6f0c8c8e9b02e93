package main

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	reloadInterval = time.Second
	// A file that was refused is judged again after this time even if it is the
	// same, because a file that it names may be good by then.
	reloadRetry = 30 * time.Second
	// The keys of issuers that are new are fetched before requests depend on
	// them, for this long at most.
	reloadPatience = 2 * time.Second
)

// reload looks at the policy file until ctx ends, and at once on SIGHUP. What is
// wrong with it is logged and shown in the metrics, and the last good one stays
// in use.
func (s *server) reload(ctx context.Context, hangups <-chan os.Signal) {
	ticks := time.NewTicker(reloadInterval)
	defer ticks.Stop()
	last, seen := s.started, s.started
	for {
		now := false // whoever sends SIGHUP has written the file
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			now = true
		case <-ticks.C:
		}
		looked := s.look()
		if now || looked.same(seen) {
			last = s.consider(ctx, last, looked)
		}
		seen = looked
	}
}

// onHangup returns a channel that has a value after SIGHUP, which without it
// would end the process. The caller calls stop at the end.
func onHangup() (hangups <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}

// reading is what the policy file was at one look.
type reading struct {
	data []byte
	err  error // of reading or judging
	at   time.Time
}

// look reads the policy file.
func (s *server) look() reading {
	data, err := readFile(s.flags.configFile, maxRulesFile+1)
	return reading{data, err, time.Now()}
}

// same reports whether the file has stayed as it was. Somebody may be writing
// one that has not: its first half can be a good file that lacks what the second
// half forbids.
func (r reading) same(other reading) bool {
	return bytes.Equal(r.data, other.data) && (r.err == nil) == (other.err == nil)
}

func (r reading) problem() string {
	if r.err == nil {
		return ""
	}
	return r.err.Error()
}

// consider takes the file into use if it is good. If it is the one that was judged
// last, it does nothing, except that a bad one gets another try after a while. It
// returns the reading that was judged last.
func (s *server) consider(ctx context.Context, last, now reading) reading {
	same := now.err == nil && bytes.Equal(now.data, last.data)
	if same && (last.err == nil || now.at.Sub(last.at) < reloadRetry) {
		return last
	}
	if now.err == nil {
		now.err = s.adopt(ctx, now.data)
	}
	if now.err == nil {
		s.metrics.reloads.WithLabelValues("success").Inc()
		s.metrics.usable.Set(1)
		s.metrics.usableAt.SetToCurrentTime()
		s.logger.Info("kubejwt: the policy file has changed and is in use", "file", s.flags.configFile)
		return now
	}
	s.metrics.usable.Set(0)
	if now.problem() != last.problem() {
		s.metrics.reloads.WithLabelValues("failure").Inc()
		s.logger.Error("kubejwt: the policy file can't be used, the last good one stays in use",
			"error", now.problem())
	}
	return now
}

// adopt makes the rules in data those in use.
func (s *server) adopt(ctx context.Context, data []byte) error {
	rules, err := parseRules(s.flags.configFile, data)
	if err != nil {
		return err
	}
	old := s.guard.judge.Load()
	judge, err := newJudge(rules, old, s.metrics.verdicts, s.flags.serveLog(s.logger))
	if err != nil {
		return err
	}
	judge.run(ctx)
	first, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	judge.ready(first) // logged by the library
	s.guard.judge.Store(judge)
	old.stopExcept(judge)
	for _, name := range old.without(judge) {
		s.metrics.verdicts.Forget(name)
	}
	return nil
}
