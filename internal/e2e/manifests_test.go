package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

// The test above would notice a slip.
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

// notForAPIServer are files that are no manifests, or of kinds that the API server
// learns from an operator.
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
