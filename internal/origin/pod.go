package origin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

const (
	hostVariable = "KUBERNETES_SERVICE_HOST"
	portVariable = "KUBERNETES_SERVICE_PORT"
)

// ErrNotInPod says that the environment does not name an API server.
var ErrNotInPod = errors.New(hostVariable + " and " + portVariable + " are not both set")

// PodAPIServer is where a pod finds its API server. Its path is empty.
func PodAPIServer() (URL, error) {
	host, port := os.Getenv(hostVariable), os.Getenv(portVariable)
	if host == "" || port == "" {
		return URL{}, ErrNotInPod
	}
	apiServer, err := Parse("https://" + net.JoinHostPort(host, port))
	if err != nil {
		return URL{}, fmt.Errorf("%s and %s: %w", hostVariable, portVariable, err)
	}
	return apiServer, nil
}

// serviceName is the API server's name in a cluster. Longer forms add the cluster's
// domain.
const serviceName = "kubernetes.default.svc"

// IsPodAPIServer reports whether o is the API server that a pod finds at apiServer,
// by that address or by its name.
func (o Origin) IsPodAPIServer(apiServer URL) bool {
	if o == apiServer.origin {
		return true
	}
	host := strings.TrimSuffix(o.host, ".")
	isName := host == serviceName || strings.HasPrefix(host, serviceName+".")
	return isName && o.scheme == "https" && o.port == "443"
}
