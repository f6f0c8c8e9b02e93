package main

import (
	"flag"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// durationVar defines a flag for a time span. Its errors say how to write one.
func durationVar(flags *flag.FlagSet, to *time.Duration, name string, value time.Duration, usage string) {
	*to = value
	flags.Var((*duration)(to), name, usage)
}

type duration time.Duration

func (d *duration) String() string { return time.Duration(*d).String() }

func (d *duration) Set(text string) error {
	parsed, err := time.ParseDuration(text)
	if err == nil {
		*d = duration(parsed)
		return nil
	}
	number := regexp.MustCompile(`^-?\d{1,6}`).FindString(text)
	count, _ := strconv.Atoi(number)
	switch strings.TrimPrefix(text, number) {
	case "d":
		return fmt.Errorf("days have no unit here: write %dh", 24*count)
	case "w":
		return fmt.Errorf("weeks have no unit here: write %dh", 7*24*count)
	case "":
		if number != "" {
			return fmt.Errorf("it needs a unit: write %ss for seconds, or 10m, 24h", number)
		}
	}
	return fmt.Errorf("want a time span as 90s, 10m or 24h")
}

// levelVar defines a flag for a log level.
func levelVar(flags *flag.FlagSet, to *slog.Level, name string, value slog.Level, usage string) {
	*to = value
	flags.Var((*level)(to), name, usage)
}

type level slog.Level

func (l *level) String() string { return strings.ToLower(slog.Level(*l).String()) }

func (l *level) Set(text string) error {
	var parsed slog.Level
	if parsed.UnmarshalText([]byte(text)) != nil {
		return fmt.Errorf("want debug, info, warn or error")
	}
	*l = level(parsed)
	return nil
}
