package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	issuer  = "https://kubernetes.default.svc.cluster.local"
	service = "data-store" // the audience that the services under test go by
)

// apiAudiences are K3s's: a token without audience gets both.
var apiAudiences = []string{issuer, "k3s"}

// create creates an object, or returns the one that there is.
func create[T any](t testing.TB, client interface {
	Create(context.Context, *T, metav1.CreateOptions) (*T, error)
	Get(context.Context, string, metav1.GetOptions) (*T, error)
}, name string, object *T) *T {
	t.Helper()
	created, err := client.Create(t.Context(), object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		created, err = client.Get(t.Context(), name, metav1.GetOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func (c *cluster) serviceAccount(t testing.TB, namespace, name string) *corev1.ServiceAccount {
	t.Helper()
	return create(t, c.CoreV1().ServiceAccounts(namespace), name,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

func (c *cluster) node(t testing.TB, name string) *corev1.Node {
	t.Helper()
	return create(t, c.CoreV1().Nodes(), name, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

func (c *cluster) secret(t testing.TB, namespace, name string) *corev1.Secret {
	t.Helper()
	return create(t, c.CoreV1().Secrets(namespace), name, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// secretToken makes a Secret-based token as kube-controller-manager does.
func (c *cluster) secretToken(t testing.TB, account *corev1.ServiceAccount, name string) string {
	t.Helper()
	payload := must(json.Marshal(map[string]string{
		"iss":                                    "kubernetes/serviceaccount",
		"sub":                                    "system:serviceaccount:" + account.Namespace + ":" + account.Name,
		"kubernetes.io/serviceaccount/namespace": account.Namespace,
		"kubernetes.io/serviceaccount/secret.name":          name,
		"kubernetes.io/serviceaccount/service-account.name": account.Name,
		"kubernetes.io/serviceaccount/service-account.uid":  string(account.UID),
	}))
	token := c.signer.token(fmt.Sprintf(`{"alg":%q,"kid":%q}`, c.signer.alg, c.signer.kid), string(payload))
	create(t, c.CoreV1().Secrets(account.Namespace), name, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Annotations: map[string]string{
				corev1.ServiceAccountNameKey: account.Name,
				corev1.ServiceAccountUIDKey:  string(account.UID),
			},
		},
		Type: corev1.SecretTypeServiceAccountToken,
		Data: map[string][]byte{corev1.ServiceAccountTokenKey: []byte(token)},
	})
	return token
}

// pod runs as the service account, on the node, if it is named.
func (c *cluster) pod(t testing.TB, account *corev1.ServiceAccount, name, node string) *corev1.Pod {
	t.Helper()
	return create(t, c.CoreV1().Pods(account.Namespace), name, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: account.Name,
			NodeName:           node,
			Containers:         []corev1.Container{{Name: "app", Image: "app"}},
		},
	})
}

// binding is what a token may be bound to.
func binding(kind, name string, uid types.UID) *authenticationv1.BoundObjectReference {
	return &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}
}

func toPod(pod *corev1.Pod) *authenticationv1.BoundObjectReference {
	return binding("Pod", pod.Name, pod.UID)
}

// mint has the API server mint a token.
func (c *cluster) mint(t testing.TB, account *corev1.ServiceAccount, to *authenticationv1.BoundObjectReference, lifetime time.Duration, audiences ...string) string {
	t.Helper()
	seconds := int64(lifetime / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         audiences,
		ExpirationSeconds: &seconds,
		BoundObjectRef:    to,
	}}
	minted, err := c.CoreV1().ServiceAccounts(account.Namespace).CreateToken(t.Context(), account.Name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("TokenRequest: %v", err)
	}
	return minted.Status.Token
}

// review asks the API server for its verdict.
func (c *cluster) review(t testing.TB, token, audience string) authenticationv1.TokenReviewStatus {
	t.Helper()
	status, err := c.tryReview(t.Context(), token, audience)
	if err != nil {
		t.Fatalf("TokenReview: %v", err)
	}
	return status
}

func (c *cluster) tryReview(ctx context.Context, token, audience string) (authenticationv1.TokenReviewStatus, error) {
	answer, err := c.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return answer.Status, nil
}
