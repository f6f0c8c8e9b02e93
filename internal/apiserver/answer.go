package apiserver

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An Answer has a Body or, for a watch, a Stream.
type Answer struct {
	Status int
	Header map[string]string
	Body   []byte
	Stream *Stream
}

// Is reports whether a path is one that Answer knows.
func Is(path string) bool {
	_, _, found := parsePath(path)
	return found
}

func parsePath(path string) (kind, namespace string, found bool) {
	rest, found := strings.CutPrefix(path, "/api/v1/")
	if inNamespace, is := strings.CutPrefix(rest, "namespaces/"); found && is {
		namespace, rest, found = strings.Cut(inNamespace, "/")
		found = found && namespace != ""
	}
	return rest, namespace, found && (rest == Pods || rest == ServiceAccounts)
}

// A query is what a request asks for.
type query struct {
	kind, namespace string
	fields          [][2]string // of the selector: name and value
	partial         bool
	watch           bool
	bookmarks       bool
	initialEvents   bool
	version         string
	after           int64 // a watch tells of later versions only
	timeout         time.Duration
	limit           int
	next            string
}

func parseQuery(r *http.Request) (*query, *Answer) {
	values := r.URL.Query()
	kind, namespace, found := parsePath(r.URL.Path)
	if !found || r.Method != http.MethodGet {
		return nil, Failure(http.StatusNotFound, "NotFound", "the server could not find the requested resource")
	}
	q := &query{
		kind: kind, namespace: namespace,
		partial:       strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata"),
		watch:         isTrue(values, "watch"),
		bookmarks:     isTrue(values, "allowWatchBookmarks"),
		initialEvents: isTrue(values, "sendInitialEvents"),
		version:       values.Get("resourceVersion"),
		next:          values.Get("continue"),
	}
	q.limit, _ = strconv.Atoi(values.Get("limit"))
	seconds, _ := strconv.Atoi(values.Get("timeoutSeconds"))
	q.timeout = time.Duration(seconds) * time.Second
	for term := range strings.SplitSeq(values.Get("fieldSelector"), ",") {
		field, value, _ := strings.Cut(term, "=")
		switch {
		case term == "":
		case !selectable(kind, field):
			return nil, Failure(http.StatusBadRequest, "BadRequest", "field label not supported")
		default:
			q.fields = append(q.fields, [2]string{field, strings.TrimPrefix(value, "=")})
		}
	}
	return q, nil
}

func selectable(kind, field string) bool {
	switch field {
	case "metadata.name", "metadata.namespace":
		return true
	default:
		return field == "spec.serviceAccountName" && kind == Pods
	}
}

func isTrue(values url.Values, name string) bool {
	return values.Get(name) == "true" || values.Get(name) == "1"
}

func (q *query) matches(i item) bool {
	if i.Kind != q.kind || q.namespace != "" && i.Namespace != q.namespace {
		return false
	}
	for _, field := range q.fields {
		got := map[string]string{
			"metadata.name":           i.Name,
			"metadata.namespace":      i.Namespace,
			"spec.serviceAccountName": i.ServiceAccount,
		}[field[0]]
		if got != field[1] {
			return false
		}
	}
	return true
}

// Answer answers a list or a watch. The caller closes the Stream.
func (s *Server) Answer(r *http.Request) *Answer {
	q, failure := parseQuery(r)
	if failure != nil {
		return failure
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	match := r.URL.Query().Get("resourceVersionMatch")
	switch {
	case !q.watch:
		return s.answerList(q)
	case q.initialEvents && s.old:
		return Failure(http.StatusUnprocessableEntity, "Invalid",
			"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
	case q.initialEvents && match != "NotOlderThan", !q.initialEvents && match != "":
		return Failure(http.StatusUnprocessableEntity, "Invalid",
			"resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
	}
	return s.answerWatch(q)
}

func (s *Server) answerWatch(q *query) *Answer {
	version, err := parseVersion(q.version)
	if err != nil {
		return Failure(http.StatusBadRequest, "BadRequest", "invalid resource version")
	}
	stream := s.open(q)
	switch {
	case q.initialEvents && version > s.version:
		stream.fail(status(http.StatusGatewayTimeout, "Timeout", "Too large resource version"))
	case q.initialEvents, version == 0:
		stream.begin(s.list(q))
	case version < s.compacted:
		stream.fail(status(http.StatusGone, "Expired", "too old resource version"))
	default: // a version that is yet to come is waited for, in silence
		q.after = version
		for _, c := range s.history {
			stream.take(c)
		}
	}
	return &Answer{
		Status: http.StatusOK,
		Header: map[string]string{"Content-Type": "application/json", "Cache-Control": "no-cache, private"},
		Stream: stream,
	}
}

func parseVersion(version string) (int64, error) {
	if version == "" {
		return 0, nil
	}
	return strconv.ParseInt(version, 10, 64)
}

func (s *Server) answerList(q *query) *Answer {
	version, err := parseVersion(q.version)
	items := s.list(q)
	at := formatVersion(s.version)
	switch {
	case err != nil:
		return Failure(http.StatusBadRequest, "BadRequest", "invalid resource version")
	case version > s.version:
		return Failure(http.StatusGatewayTimeout, "Timeout", "Too large resource version")
	case q.next != "":
		left, found := s.pages[q.next]
		if !found {
			return Failure(http.StatusGone, "Expired", "The provided continue parameter is too old")
		}
		items = left
		at, _, _ = strings.Cut(q.next, ".")
	}
	metadata := map[string]any{"resourceVersion": at}
	if 0 < q.limit && q.limit < len(items) {
		next := at + "." + strconv.Itoa(len(s.pages)+1)
		s.pages[next] = items[q.limit:]
		items = items[:q.limit]
		metadata["continue"] = next
	}
	encoded := make([]json.RawMessage, 0, len(items))
	for _, it := range items {
		encoded = append(encoded, it.encode(q.partial))
	}
	list := map[string]any{"metadata": metadata, "items": encoded, "apiVersion": "v1"}
	switch {
	case q.partial:
		list["kind"], list["apiVersion"] = "PartialObjectMetadataList", "meta.k8s.io/v1"
	case q.kind == Pods:
		list["kind"] = "PodList"
	default:
		list["kind"] = "ServiceAccountList"
	}
	header := map[string]string{"Content-Type": "application/json"}
	return &Answer{Status: http.StatusOK, Header: header, Body: marshal(list)}
}

// Failure is the Status of a request that fails.
func Failure(code int, reason, message string) *Answer {
	return &Answer{
		Status: code,
		Header: map[string]string{"Content-Type": "application/json", "Cache-Control": "no-cache, private"},
		Body:   status(code, reason, message),
	}
}

func status(code int, reason, message string) json.RawMessage {
	return marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{},
		"status": "Failure", "message": message, "reason": reason, "code": code,
	})
}

// Write sends an answer over the network, to the end of its stream.
func (a *Answer) Write(ctx context.Context, w http.ResponseWriter) {
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.Status)
	w.Write(a.Body)
	if a.Stream == nil {
		return
	}
	defer a.Stream.Close()
	flusher := http.NewResponseController(w)
	for flusher.Flush() == nil {
		line, err := a.Stream.Next(ctx)
		if err != nil {
			return
		}
		w.Write(line)
	}
}

// Response is the answer in memory, to a request that was asked in this synctest
// bubble.
func (a *Answer) Response(r *http.Request) *http.Response {
	header := make(http.Header)
	for name, value := range a.Header {
		header.Set(name, value)
	}
	response := &http.Response{
		Status:        http.StatusText(a.Status),
		StatusCode:    a.Status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(strings.NewReader(string(a.Body))),
		ContentLength: int64(len(a.Body)),
		Request:       r,
	}
	if a.Stream != nil {
		response.ContentLength = -1
		response.Body = &streamBody{ctx: r.Context(), stream: a.Stream}
	}
	return response
}

// streamBody is a stream as the body of a response.
type streamBody struct {
	ctx    context.Context
	stream *Stream
	rest   []byte
}

func (b *streamBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		line, err := b.stream.Next(b.ctx)
		if err != nil {
			return 0, err
		}
		b.rest = line
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *streamBody) Close() error {
	b.stream.Close()
	return nil
}
