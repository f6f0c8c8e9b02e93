package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

const (
	examples  = "../../examples"
	manifests = examples + "/kubernetes"
)

// The API server takes the examples' manifests, with no member that it does
// not know.
func TestManifests(t *testing.T) {
	found := findManifests(t)
	if len(found) == 0 {
		if _, err := os.Stat(manifests); err == nil {
			t.Fatalf("%s holds no manifest", manifests)
		}
		t.Skipf("there are no manifests in %s yet", examples)
	}
	c := sharedCluster(t, "RS256")
	client, err := dynamic.NewForConfig(c.config)
	noError(t, err)
	groups, err := restmapper.GetAPIGroupResources(c.Discovery())
	noError(t, err)
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	for _, m := range found {
		t.Run(m.name, func(t *testing.T) { m.apply(t, client, mapper) })
	}
}

// The API server takes what kustomize makes of the bases too, with the kind
// ServiceMonitor as the Prometheus operator defines it. Their pods pass the Pod
// Security Standard that their namespaces enforce.
func TestKustomizations(t *testing.T) {
	c := sharedCluster(t, "RS256")
	client, err := dynamic.NewForConfig(c.config)
	noError(t, err)
	mapper := addServiceMonitors(t, c, client)
	for _, base := range []string{"deployment", "monitored", "sidecar"} {
		kustomize := exec.Command("go", "-C", "../manifests", "run", ".", manifests+"/serve/"+base)
		kustomize.Env = append(os.Environ(), "GOWORK=off")
		var found []manifest
		noError(t, eachObject(outputOf(t, kustomize), func(object *unstructured.Unstructured) {
			found = append(found, manifest{base + "/" + object.GetKind(), object})
		}))
		slices.SortStableFunc(found, func(a, b manifest) int { return a.order() - b.order() })
		for _, m := range found {
			t.Run(m.name, func(t *testing.T) { m.apply(t, client, mapper) })
			if m.object.GetKind() == "Deployment" {
				t.Run(base+"/Pod", func(t *testing.T) { m.createPod(t, client) })
			}
		}
		if len(found) == 0 {
			t.Errorf("%s: kustomize makes nothing of it", base)
		}
	}
}

func outputOf(t *testing.T, command *exec.Cmd) []byte {
	t.Helper()
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, said.String())
	}
	return out
}

// prometheusOperator is the module that has the definition of ServiceMonitor.
const prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

// addServiceMonitors teaches the API server the kind ServiceMonitor, and returns
// a mapper that knows it.
func addServiceMonitors(t *testing.T, c *cluster, client dynamic.Interface) meta.RESTMapper {
	t.Helper()
	download := exec.Command("go", "mod", "download", "-json", prometheusOperator)
	download.Dir = t.TempDir()
	download.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	var module struct{ Dir string }
	noError(t, json.Unmarshal(outputOf(t, download), &module))
	data, err := os.ReadFile(module.Dir + "/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml")
	noError(t, err)
	definitions := client.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	noError(t, eachObject(data, func(object *unstructured.Unstructured) {
		_, err := definitions.Create(t.Context(), object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if !apierrors.IsAlreadyExists(err) { // as when a test is run twice
			noError(t, err)
		}
	}))
	kind := schema.GroupKind{Group: "monitoring.coreos.com", Kind: "ServiceMonitor"}
	for deadline := time.Now().Add(patience); ; {
		groups, err := restmapper.GetAPIGroupResources(c.Discovery())
		noError(t, err)
		mapper := restmapper.NewDiscoveryRESTMapper(groups)
		if _, err = mapper.RESTMapping(kind, "v1"); err == nil {
			return mapper
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// createPod makes a pod as the Deployment would, in a dry run.
func (m manifest) createPod(t *testing.T, client dynamic.Interface) {
	pod, _, err := unstructured.NestedMap(m.object.Object, "spec", "template")
	noError(t, err)
	pod["apiVersion"], pod["kind"] = "v1", "Pod"
	noError(t, unstructured.SetNestedField(pod, "a-pod", "metadata", "name"))
	pods := client.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace(m.object.GetNamespace())
	_, err = pods.Create(t.Context(), &unstructured.Unstructured{Object: pod}, dryRun)
	noError(t, err)
	// It is the standard that lets it pass.
	noError(t, unstructured.SetNestedField(pod, true, "spec", "hostNetwork"))
	if _, err := pods.Create(t.Context(), &unstructured.Unstructured{Object: pod}, dryRun); err == nil {
		t.Error("a pod in the node's network passes")
	}
}

// The tests above would notice a slip.
func TestManifestsStrictly(t *testing.T) {
	c := sharedCluster(t, "RS256")
	client, err := dynamic.NewForConfig(c.config)
	noError(t, err)
	account := func(more map[string]any) *unstructured.Unstructured {
		object := map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "x"}}
		for name, value := range more {
			object[name] = value
		}
		return &unstructured.Unstructured{Object: object}
	}
	accounts := client.Resource(corev1.SchemeGroupVersion.WithResource("serviceaccounts")).Namespace("api")
	if _, err := accounts.Create(t.Context(), account(nil), dryRun); err != nil {
		t.Error(err)
	}
	if _, err := accounts.Create(t.Context(), account(map[string]any{"automountServiceAcountToken": false}), dryRun); err == nil {
		t.Error("a misspelled member passes")
	}
}

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}

// A manifest is one object of a file.
type manifest struct {
	name   string
	object *unstructured.Unstructured
}

// notForAPIServer are files that are no manifests. TestKustomizations has the
// ServiceMonitor.
var notForAPIServer = []string{"kustomization.yaml", "serve.yaml", "servicemonitor.yaml"}

// findManifests reads all objects of all YAML files, and puts what others need
// first, as an operator does.
func findManifests(t *testing.T) (found []manifest) {
	t.Helper()
	err := filepath.WalkDir(manifests, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path)) || slices.Contains(notForAPIServer, entry.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return eachObject(data, func(object *unstructured.Unstructured) {
			name := fmt.Sprintf("%s/%s/%s", strings.TrimPrefix(path, examples+"/"), object.GetKind(), object.GetName())
			found = append(found, manifest{name, object})
		})
	})
	noError(t, err)
	slices.SortStableFunc(found, func(a, b manifest) int { return a.order() - b.order() })
	return found
}

func eachObject(data []byte, do func(*unstructured.Unstructured)) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := new(unstructured.Unstructured)
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(object.Object) > 0 {
			do(object)
		}
	}
}

func (m manifest) order() int {
	return map[string]int{"Namespace": -2, "ServiceAccount": -1}[m.object.GetKind()]
}

// apply does as kubectl apply --server-side --dry-run=server --validate=strict.
// Namespaces and service accounts are then made, since others need them.
func (m manifest) apply(t *testing.T, client dynamic.Interface, mapper meta.RESTMapper) {
	kind := m.object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	noError(t, err)
	var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := m.object.GetNamespace()
		if namespace == "" {
			namespace = "api"
		}
		resource = client.Resource(mapping.Resource).Namespace(namespace)
	}
	data, err := m.object.MarshalJSON()
	noError(t, err)
	force := true
	options := metav1.PatchOptions{
		DryRun: dryRun.DryRun, FieldValidation: dryRun.FieldValidation, FieldManager: "kubejwt-e2e", Force: &force,
	}
	if _, err := resource.Patch(t.Context(), m.object.GetName(), "application/apply-patch+yaml", data, options); err != nil {
		t.Fatal(err)
	}
	if m.order() < 0 {
		options.DryRun = nil
		_, err := resource.Patch(t.Context(), m.object.GetName(), "application/apply-patch+yaml", data, options)
		noError(t, err)
	}
}
