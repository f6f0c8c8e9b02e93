package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const serveBases = "../../examples/kubernetes/serve/"

// kindsOf are the kinds of what kustomize makes of a folder, sorted.
func kindsOf(resources []*resource.Resource) (kinds []string) {
	for _, r := range resources {
		kinds = append(kinds, r.GetKind())
	}
	slices.Sort(kinds)
	return kinds
}

// Each folder builds, and has what a platform team looks for. Nothing is granted
// to anybody.
func TestBases(t *testing.T) {
	found := 0
	for base, want := range map[string]string{
		"deployment": "ConfigMap Deployment Namespace NetworkPolicy PodDisruptionBudget Service ServiceAccount",
		"monitored":  "ConfigMap Deployment Namespace NetworkPolicy PodDisruptionBudget Service ServiceAccount ServiceMonitor",
		"sidecar":    "ConfigMap Deployment Namespace NetworkPolicy PodDisruptionBudget Service ServiceAccount",
	} {
		resources, err := build(serveBases + base)
		if err != nil {
			t.Errorf("%s: %v", base, err)
			continue
		}
		if got := strings.Join(kindsOf(resources.Resources()), " "); got != want {
			t.Errorf("%s has %s: want %s", base, got, want)
		}
	}
	err := filepath.WalkDir(serveBases, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "kustomization.yaml" {
			found++
		}
		return err
	})
	if err != nil || found != 3 {
		t.Errorf("%d bases, %v: want 3", found, err)
	}
}

// container is what matters here of a container.
type container struct {
	Name            string `yaml:"name"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct {
			Drop []string `yaml:"drop"`
		} `yaml:"capabilities"`
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name string `yaml:"name"`
	} `yaml:"volumeMounts"`
}

// pod is what matters here of a pod.
type pod struct {
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
	SecurityContext              struct {
		RunAsNonRoot bool `yaml:"runAsNonRoot"`
		RunAsUser    int  `yaml:"runAsUser"`
	} `yaml:"securityContext"`
	InitContainers []container `yaml:"initContainers"`
	Containers     []container `yaml:"containers"`
}

// No container can write to its root, gain a privilege or read another's token.
func TestHardened(t *testing.T) {
	for _, base := range []string{"deployment", "sidecar"} {
		p := podOf(t, base)
		if p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
			t.Errorf("%s: a token is mounted into every container", base)
		}
		if !p.SecurityContext.RunAsNonRoot || p.SecurityContext.RunAsUser == 0 {
			t.Errorf("%s: the user is %+v: want one that is not root", base, p.SecurityContext)
		}
		for _, c := range slices.Concat(p.InitContainers, p.Containers) {
			s := c.SecurityContext
			if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
				t.Errorf("%s: %s has the security context %+v", base, c.Name, s)
			}
			hasToken := false
			for _, mount := range c.VolumeMounts {
				hasToken = hasToken || mount.Name == "kube-api-access"
			}
			if hasToken != (c.Name == "kubejwt") {
				t.Errorf("%s: %s mounts the token: %v", base, c.Name, hasToken)
			}
		}
	}
}

func podOf(t *testing.T, base string) pod {
	t.Helper()
	var deployment struct {
		Spec struct {
			Template struct {
				Spec pod `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	text := only(t, base, "Deployment").MustYaml()
	if err := yaml.Unmarshal([]byte(text), &deployment); err != nil {
		t.Fatal(err)
	}
	return deployment.Spec.Template.Spec
}

// only is the one resource of its kind.
func only(t *testing.T, base, kind string) *resource.Resource {
	t.Helper()
	resources, err := build(serveBases + base)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources.Resources() {
		if r.GetKind() == kind {
			return r
		}
	}
	t.Fatalf("%s has no %s", base, kind)
	return nil
}

// The ServiceMonitor finds the Service and its port.
func TestServiceMonitor(t *testing.T) {
	var monitor struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			} `yaml:"selector"`
			Endpoints []struct {
				Port string `yaml:"port"`
				Path string `yaml:"path"`
			} `yaml:"endpoints"`
		} `yaml:"spec"`
	}
	var service struct {
		Spec struct {
			Ports []struct {
				Name string `yaml:"name"`
			} `yaml:"ports"`
		} `yaml:"spec"`
	}
	monitorResource, serviceResource := only(t, "monitored", "ServiceMonitor"), only(t, "monitored", "Service")
	if err := yaml.Unmarshal([]byte(monitorResource.MustYaml()), &monitor); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(serviceResource.MustYaml()), &service); err != nil {
		t.Fatal(err)
	}
	if monitorResource.GetNamespace() != serviceResource.GetNamespace() {
		t.Errorf("it is in the namespace %s, and the Service in %s", monitorResource.GetNamespace(), serviceResource.GetNamespace())
	}
	labels := serviceResource.GetLabels()
	for name, value := range monitor.Spec.Selector.MatchLabels {
		if labels[name] != value {
			t.Errorf("it looks for %s=%s, and the Service has %v", name, value, labels)
		}
	}
	endpoints := monitor.Spec.Endpoints
	if len(endpoints) != 1 || endpoints[0].Path != "/metrics" {
		t.Fatalf("the endpoints are %v: want /metrics alone", endpoints)
	}
	for _, port := range service.Spec.Ports {
		if port.Name == endpoints[0].Port {
			return
		}
	}
	t.Errorf("the Service has no port %s", endpoints[0].Port)
}

// No file of a base is left out of its kustomization.yaml.
func TestNoFileLeftOut(t *testing.T) {
	for _, base := range []string{"deployment", "monitored", "sidecar"} {
		kustomization, err := os.ReadFile(serveBases + base + "/kustomization.yaml")
		if err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(serveBases + base)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if file.Name() != "kustomization.yaml" && !strings.Contains(string(kustomization), file.Name()) {
				t.Errorf("%s/%s is in no list", base, file.Name())
			}
		}
	}
}
