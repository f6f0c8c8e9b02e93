package kubejwtgrpc

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/oauth2"
	"google.golang.org/grpc/credentials"
)

// Credentials returns credentials that send the source's token with each call,
// for [google.golang.org/grpc.WithPerRPCCredentials]. For a mounted token the
// source is [github.com/kubejwt/kubejwt.TokenFile], which reads it again as it
// rotates. The token is never sent in the clear: a call over a connection
// without transport security, such as TLS, is an error. So is each call with a nil
// source. They are safe for concurrent use by multiple goroutines if source is.
func Credentials(source oauth2.TokenSource) credentials.PerRPCCredentials {
	return perRPC{source}
}

type perRPC struct{ source oauth2.TokenSource }

func (c perRPC) RequireTransportSecurity() bool { return true }

func (c perRPC) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	info, ok := credentials.RequestInfoFromContext(ctx)
	if !ok {
		return nil, errors.New("kubejwtgrpc: the token is sent with gRPC calls only")
	}
	if err := credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity); err != nil {
		return nil, fmt.Errorf("kubejwtgrpc: the token is sent over TLS only: %w", err)
	}
	if c.source == nil {
		return nil, errors.New("kubejwtgrpc: Credentials: the TokenSource is nil")
	}
	token, err := c.source.Token()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": token.Type() + " " + token.AccessToken}, nil
}
