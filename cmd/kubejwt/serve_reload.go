package main

import (
	"bytes"
	"context"
	"time"
)

const (
	reloadInterval = time.Second
	// A file that was refused is judged again after this time even if it is the
	// same, because a file that it names may be in order by then.
	reloadRetry = 30 * time.Second
	// The keys of issuers that are new are fetched before requests depend on
	// them, for this long at most.
	reloadPatience = 2 * time.Second
)

// reload looks at the policy file until ctx ends. What is wrong with it is
// logged and shown in the metrics, and the last good one stays in use.
func (s *server) reload(ctx context.Context) {
	ticks := time.NewTicker(reloadInterval)
	defer ticks.Stop()
	last := s.started
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			last = s.lookAgain(ctx, last)
		}
	}
}

// reading is what the policy file was at one look.
type reading struct {
	data []byte
	err  error // of reading or judging
	at   time.Time
}

func (r reading) problem() string {
	if r.err == nil {
		return ""
	}
	return r.err.Error()
}

// lookAgain is one look at the file.
func (s *server) lookAgain(ctx context.Context, last reading) reading {
	data, err := readFile(s.flags.configFile, maxRulesFile+1)
	now := reading{data, err, time.Now()}
	same := err == nil && bytes.Equal(data, last.data)
	if same && (last.err == nil || now.at.Sub(last.at) < reloadRetry) {
		return last
	}
	if err == nil {
		now.err = s.adopt(ctx, data)
	}
	if now.err == nil {
		s.metrics.reloads.WithLabelValues("success").Inc()
		s.metrics.inOrder.Set(1)
		s.metrics.lastInOrder.SetToCurrentTime()
		s.logger.Info("kubejwt: the policy file has changed and is in use", "file", s.flags.configFile)
		return now
	}
	s.metrics.inOrder.Set(0)
	if now.problem() != last.problem() {
		s.metrics.reloads.WithLabelValues("failure").Inc()
		s.logger.Error("kubejwt: the policy file is not in order, the last good one stays in use", "error", now.problem())
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
