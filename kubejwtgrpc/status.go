package kubejwtgrpc

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubejwt/kubejwt"
)

// Status returns what [kubejwt.WriteError] answers over HTTP, as a gRPC status:
// Unauthenticated, PermissionDenied or Unavailable, with the same fixed text.
// Unavailable has the time to wait as RetryInfo. For nil and for an error
// of anybody else it is Internal. Use it in interceptors of your own.
func Status(err error) *status.Status {
	answer := &answer{header: make(http.Header)}
	kubejwt.WriteError(answer, err)
	s := status.New(codeOf(answer.status), strings.TrimSpace(answer.text.String()))
	seconds, err := strconv.Atoi(answer.header.Get("Retry-After"))
	if err != nil {
		return s
	}
	delay := durationpb.New(time.Duration(seconds) * time.Second)
	if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: delay}); err == nil {
		return detailed
	}
	return s
}

func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	default:
		return codes.Internal
	}
}

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	status int
	header http.Header
	text   strings.Builder
}

func (a *answer) Header() http.Header            { return a.header }
func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(text []byte) (int, error) { return a.text.Write(text) }
