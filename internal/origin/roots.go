package origin

import (
	"errors"
	"log/slog"
	"strings"

	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/textfile"
)

const (
	maxRootsSize = 1 << 20

	// MaxBearerSize is the limit in bytes for a file with a bearer token.
	MaxBearerSize = 16 << 10
)

// warnOfRoots logs which certificates are not used.
func warnOfRoots(logger *slog.Logger, path string, roots *pemfile.Roots) {
	for _, certificate := range roots.Unused {
		logger.Warn("kubejwt: a root certificate is not used", "file", path, "why", certificate)
	}
}

// ParseBearer returns the token in data. There must be nothing else in it, and only
// characters that a header can hold.
func ParseBearer(data []byte) (string, error) {
	data, err := textfile.Decode(data)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", errors.New("no token in it")
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", errors.New("more in it than one token: want one line of ASCII without spaces")
		}
	}
	return token, nil
}
