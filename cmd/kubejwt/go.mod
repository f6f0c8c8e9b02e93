module github.com/kubejwt/kubejwt/cmd/kubejwt

go 1.26.0

require github.com/kubejwt/kubejwt v0.0.0

require golang.org/x/sys v0.46.0 // indirect

require (
	github.com/coreos/go-oidc/v3 v3.21.0 // indirect
	github.com/go-jose/go-jose/v4 v4.1.9 // indirect
	github.com/go-json-experiment/json v1.27.2 // indirect
	golang.org/x/oauth2 v0.37.0 // indirect
	golang.org/x/term v0.44.0
)
