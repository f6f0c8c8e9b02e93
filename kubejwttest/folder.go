package kubejwttest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// mountedLifetime is the lifetime of the token that every pod gets by default.
const mountedLifetime = 3607 * time.Second

// watcherName is the namespace and the name of the service account whose token
// is mounted.
const watcherName = "default"

// Folder returns the path of a folder like the one that kubelet mounts at
// /var/run/secrets/kubernetes.io/serviceaccount: token, ca.crt and namespace,
// which are symbolic links through ..data. A new token swaps ..data, at once
// after RotateKey and when a fifth of the old one's life is left. The token is
// that of default/default, which may list and watch pods and service accounts.
func (c *Cluster) Folder() string { return c.folder }

// wasMounted reports whether token is or was in the folder.
func (c *Cluster) wasMounted(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.mounted, token)
}

// renewMounted renews the token as kubelet does, until the Cluster is closed.
func (c *Cluster) renewMounted() {
	if err := c.mount(); err != nil {
		panic("kubejwttest: Folder: " + err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.renew.Reset(mountedLifetime * 4 / 5)
	}
}

// mount writes a new token into a new folder and swaps ..data, as kubelet's
// atomic writer does (k8s.io/kubernetes pkg/volume/util/atomic_writer.go).
func (c *Cluster) mount() error {
	token := c.Mint(Token{
		Namespace:      watcherName,
		ServiceAccount: watcherName,
		Audiences:      []string{c.issuer},
		Lifetime:       mountedLifetime,
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.swaps++
	data := fmt.Sprintf("..%s_%d", time.Now().Format("2006_01_02_15_04_05"), c.swaps)
	if err := os.Mkdir(filepath.Join(c.folder, data), 0o755); err != nil {
		return err
	}
	for name, content := range map[string]string{"token": token, "ca.crt": string(c.caPEM), "namespace": watcherName} {
		if err := os.WriteFile(filepath.Join(c.folder, data, name), []byte(content), 0o644); err != nil {
			return err
		}
		link := filepath.Join(c.folder, name)
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join("..data", name), link); err != nil {
			return err
		}
	}
	current, next := filepath.Join(c.folder, "..data"), filepath.Join(c.folder, "..data_tmp")
	old, _ := os.Readlink(current)
	if err := os.Symlink(data, next); err != nil {
		return err
	}
	if err := os.Rename(next, current); err != nil {
		return err
	}
	c.mounted = append(c.mounted, token)
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(c.folder, old))
}
