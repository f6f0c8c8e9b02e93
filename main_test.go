package kubejwt_test

import (
	"log/slog"
	"os"
	"testing"
)

// Tests that look at the log bring a Logger of their own.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}
