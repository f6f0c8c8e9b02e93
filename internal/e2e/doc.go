// Package e2e holds the library against its judge: a real kube-apiserver, with
// a real etcd, built from their Go modules. It has tests and benchmarks only.
package e2e
