// Manifests prints what kustomize makes of a folder, as kubectl kustomize does:
//
//	go run . ../../examples/kubernetes/serve/sidecar
//
// It is a module of its own, so that kustomize enters nobody's graph. The tests
// of internal/e2e run it, and let a real API server judge what it prints.
package main

import (
	"fmt"
	"log"
	"os"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: go run . FOLDER")
	}
	resources, err := build(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
}

func build(folder string) (resmap.ResMap, error) {
	return krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
}
