package origin

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// An Answer has the status 200. Its Body has not been read yet, and must be closed.
type Answer struct {
	URL    URL
	Header http.Header
	Body   io.ReadCloser
	Roots  string // a digest of the CAFile that the server was verified with; "" without a CAFile
}

// ReadAll reads and closes the body of an answer. It may have at most this many bytes,
// both before and after decompression. ReadAll decodes gzip, which some buckets send
// without being asked.
func (a *Answer) ReadAll(most int64) ([]byte, error) {
	defer a.Body.Close()
	body, err := a.decode(bufio.NewReader(io.LimitReader(a.Body, most+1)))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", a.URL, err)
	}
	content, err := io.ReadAll(io.LimitReader(body, most+1))
	switch {
	case isGzipError(err):
		return nil, fmt.Errorf("GET %s: the answer is damaged gzip", a.URL)
	case err != nil:
		return nil, fmt.Errorf("GET %s: the answer broke off or took too long", a.URL)
	case int64(len(content)) > most:
		return nil, fmt.Errorf("GET %s: more than %d bytes", a.URL, most)
	default:
		return content, nil
	}
}

// decode returns a reader of the decompressed body. It recognises gzip and JSON by
// their first bytes, since headers are often wrong about them: some buckets have a
// charset as Content-Encoding.
func (a *Answer) decode(body *bufio.Reader) (io.Reader, error) {
	const magic, mark = "\x1f\x8b", "\xef\xbb\xbf"
	start, _ := body.Peek(len(mark + "{")) // an error here comes again when the body is read
	if bytes.HasPrefix(start, []byte(magic)) {
		decoded, err := gzip.NewReader(body)
		if err != nil {
			return nil, errors.New("the answer is damaged gzip")
		}
		return decoded, nil
	}
	if bytes.HasPrefix(bytes.TrimPrefix(start, []byte(mark)), []byte("{")) {
		return body, nil
	}
	switch encoding := a.Header.Get("Content-Encoding"); encoding {
	case "", "identity", "gzip":
		return body, nil
	default:
		return nil, fmt.Errorf("the answer has the Content-Encoding %s, which was not asked for", quote.Value(encoding))
	}
}

func isGzipError(err error) bool {
	_, isCorrupt := errors.AsType[flate.CorruptInputError](err)
	return isCorrupt || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader)
}

// MaxAge returns the max-age of Cache-Control (RFC 9111, section 5.2.2.1). It is a day
// at most, and negative if there is none.
func (a *Answer) MaxAge() time.Duration {
	for directive := range strings.SplitSeq(strings.Join(a.Header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return -1
		}
		return time.Duration(min(seconds, uint64(24*time.Hour/time.Second))) * time.Second
	}
	return -1
}
