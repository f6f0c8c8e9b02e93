package revocation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/origin"
)

// An apiServer sends lists and watches.
type apiServer struct {
	url    origin.URL
	client *origin.Client
}

// newAPIServer makes an apiServer from Options alone.
func newAPIServer(o *Options) (apiServer, error) {
	if o.APIServer == "" {
		return apiServer{}, badOption("APIServer",
			"is required: the https URL of the cluster's API server (InCluster knows the pod's)")
	}
	at, err := origin.Parse(o.APIServer)
	if err != nil {
		return apiServer{}, badOption("APIServer", "%w", err)
	}
	client, err := origin.New(o.client(at))
	if err != nil {
		return apiServer{}, fmt.Errorf("kubejwt/revocation: %w", err)
	}
	return apiServer{at, client}, nil
}

// newPodAPIServer makes an apiServer from Options. The pod supplies what they leave
// empty. Another API server gets neither the pod's roots nor its token.
func newPodAPIServer(o *Options) (apiServer, error) {
	at, err := origin.PodAPIServer()
	switch {
	case errors.Is(err, origin.ErrNotInPod):
		return apiServer{}, fmt.Errorf("kubejwt/revocation: InCluster: outside a pod leave the watch out, "+
			"or use New with APIServer, CAFile and BearerTokenFile: %w", kubejwt.ErrNotInCluster)
	case err != nil:
		return apiServer{}, fmt.Errorf("kubejwt/revocation: %w", err)
	}
	if o.APIServer != "" {
		given, err := newAPIServer(o)
		if err != nil || !given.url.Origin().IsPodAPIServer(at) {
			return given, err
		}
		at = given.url
	}
	client, err := origin.NewInPod(o.client(at))
	if err != nil {
		return apiServer{}, fmt.Errorf("kubejwt/revocation: %w", err)
	}
	return apiServer{at, client}, nil
}

func (o *Options) client(at origin.URL) origin.Options {
	return origin.Options{
		Origin:          at.Origin(),
		CAFile:          o.CAFile,
		BearerTokenFile: o.BearerTokenFile,
		Transport:       o.Transport,
		FieldPrefix:     "Options.",
		Streams:         true,
		Logger:          o.Logger,
	}
}

// get asks for the metadata of a resource. The caller closes the body.
func (a *apiServer) get(ctx context.Context, r resource, query url.Values, form string) (io.ReadCloser, error) {
	if r.selector != "" {
		query.Set("fieldSelector", r.selector)
	}
	answer, err := a.client.Get(ctx, a.url.At(r.path(), query), "application/json;as="+form+";g=meta.k8s.io;v=v1")
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// What a request asks for the metadata in.
const (
	formObjects = "PartialObjectMetadata"
	formList    = "PartialObjectMetadataList"
)

// denies reports whether an answer means that the configuration is wrong.
func denies(err error) bool {
	code := codeOf(err)
	return code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusNotFound
}

// lacksWatchList reports whether an answer says that a watch can't begin with a
// list.
func lacksWatchList(err error) bool { return codeOf(err) == http.StatusUnprocessableEntity }

func codeOf(err error) int {
	if status, ok := errors.AsType[*origin.StatusError](err); ok {
		return status.Code
	}
	return 0
}

func retryAfter(err error) time.Duration {
	if status, ok := errors.AsType[*origin.StatusError](err); ok {
		return status.RetryAfter
	}
	return 0
}
