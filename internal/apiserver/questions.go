package apiserver

import "net/http"

// Who asks a Question. Without any of them there is no Authorization.
const (
	Watcher      = "watcher"         // it may list and watch pods and service accounts of the namespace api
	Stranger     = "another account" // a service account that may not
	WithoutToken = ""
	WithRubbish  = "rubbish"
)

// A Question is a request whose answer a test of kubejwttest wants to be that of
// a real API server, which internal/e2e asks.
type Question struct {
	Name, Method, Path string
	Who                string
	Status             int
	Part               string // of the body
}

// Questions are for a cluster with the pods a and b and the service account api
// in the namespace api.
func Questions() []Question {
	const (
		pods     = "/api/v1/namespaces/api/pods"
		accounts = "/api/v1/namespaces/api/serviceaccounts"
		ofAPI    = pods + "?fieldSelector=spec.serviceAccountName%3Dapi"
		ofNobody = pods + "?fieldSelector=spec.serviceAccountName%3Dnobody"
		watch    = pods + "?watch=1"
		initial  = watch + "&sendInitialEvents=true"
		match    = "&resourceVersionMatch=NotOlderThan"
		toCome   = "resourceVersion=999999999"
	)
	get := func(name, path, who string, status int, part string) Question {
		return Question{name, http.MethodGet, path, who, status, part}
	}
	return []Question{
		get("a list", pods, Watcher, 200, `"kind":"PodList"`),
		get("of one account's pods", ofAPI, Watcher, 200, `"name":"a"`),
		get("of nobody's pods", ofNobody, Watcher, 200, `"items":[]`),
		get("of one service account", accounts+"?fieldSelector=metadata.name%3Dapi", Watcher, 200, `"name":"api"`),
		get("by a field that can't be selected", pods+"?fieldSelector=spec.priority%3D1", Watcher, 400, ""),
		get("a page", pods+"?limit=1", Watcher, 200, `"continue":"`),
		get("of a cached version", pods+"?resourceVersion=0", Watcher, 200, `"name":"a"`),
		get("of a version to come", pods+"?"+toCome, Watcher, 504, ""),
		get("of a version that is none", pods+"?resourceVersion=x", Watcher, 400, ""),
		get("initial events without a match", initial, Watcher, 422, ""),
		get("a match without initial events", watch+match, Watcher, 422, ""),
		get("initial events of a version to come", initial+match+"&"+toCome, Watcher, 200, `"type":"ERROR"`),
		get("a version to come, in silence", watch+"&timeoutSeconds=1&"+toCome, Watcher, 200, ""),
		get("another account's token", pods, Stranger, 403, ""),
		get("no token", pods, WithoutToken, 403, ""),
		get("rubbish", pods, WithRubbish, 401, ""),
		{"a POST", http.MethodPost, pods, Watcher, 403, ""},
	}
}
