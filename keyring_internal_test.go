package kubejwt

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
)

// The keys of a KeyFile serve until a day has passed since the file was good.
func TestKeyFileAtItsBound(t *testing.T) {
	for age, want := range map[time.Duration]Reason{keypolicy.DefaultMaxStale - 1: "", keypolicy.DefaultMaxStale: "unavailable"} {
		folder := t.TempDir()
		tell(t, func(t *testing.T, s *story) {
			s.keyFile(folder, func(path KeyFile) (*fileKeys, error) { return newFileKeys(path, slog.New(slog.DiscardHandler)) })
			if err := os.Remove(filepath.Join(folder, "sa.jwks")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(age)
			s.must(s.mint("old"), want)
		})
	}
}
