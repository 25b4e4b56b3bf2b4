package build

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/registrytest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// sqlFrom builds sql in a new folder with the given cache and the lock that all tests share. It
// returns the report and the artifact's folder.
func sqlFrom(t *testing.T, cache string, args ...string) (sovtest.BuildReport, string) {
	t.Helper()
	dir := t.TempDir()
	result := sovtest.Run(t, func(c *exec.Cmd) { c.Dir = dir }, slices.Concat([]string{"build", "sql", "--json", "--progress", "plain",
		"--lock", sovtest.SharedLock("arm64"), "--cache", cache}, sovtest.Emulated(), sovtest.FromMirror(), args)...)
	if result.Status != 0 || strings.Contains(result.Stderr, "warning: remote cache") {
		t.Fatal(result)
	}
	var r sovtest.BuildReport
	if err := json.Unmarshal([]byte(result.Stdout), &r); err != nil {
		t.Fatalf("%v: %v", err, result)
	}
	return r, filepath.Join(dir, "out", "sql", "arm64")
}

func sameArtifact(t *testing.T, dir string) {
	t.Helper()
	if result := sovtest.Run(t, nil, "diff", sovtest.Artifact(t, "arm64"), dir); result.Status != 0 {
		t.Error(result)
	}
}

// TestSecondMachine builds sql, including the kernel and Tailscale, on a computer with an empty
// cache from a registry that another computer has filled. No stage runs. Only the bytes of the
// artifact are downloaded, once for eight builds.
func TestSecondMachine(t *testing.T) {
	registry := registrytest.Start(t)
	sovtest.FillRegistry(t, registry, "max")
	registry.Traffic()
	cache, from := t.TempDir(), []string{"--cache-from", registry.Repository("team/cache")}

	var group sync.WaitGroup
	start := time.Now()
	for range 8 {
		group.Go(func() {
			report, dir := sqlFrom(t, cache, from...)
			if built := report.Built(); len(built) > 0 {
				t.Errorf("it built %v", built)
			}
			sameArtifact(t, dir)
		})
	}
	group.Wait()
	traffic := registry.Traffic()
	t.Logf("eight builds in %.1f s: %d requests, %d bytes", time.Since(start).Seconds(), traffic.Requests, traffic.Out)
	if traffic.Out > 120e6 {
		t.Errorf("%d bytes were fetched", traffic.Out)
	}

	if result := sovtest.Run(t, nil, "cache", "verify", "--cache", cache); result.Status != 0 || !strings.Contains(result.Stdout, "have not been needed here") {
		t.Error(result)
	}
	// An unchanged build no longer needs the registry. A changed build downloads what it has to
	// assemble again.
	registry.Stop()
	if report, dir := sqlFrom(t, cache); len(report.Built()) > 0 {
		t.Errorf("without the registry it built %v", report.Built())
	} else {
		sameArtifact(t, dir)
	}
	registry.Restart()
	registry.Traffic()
	dir := t.TempDir()
	recipe := filepath.Join(dir, "sql.yaml")
	if err := os.WriteFile(recipe, sovtest.SQL(sovtest.WithSetting("work_mem: 5MB")), 0o644); err != nil {
		t.Fatal(err)
	}
	result := sovtest.Run(t, func(c *exec.Cmd) { c.Dir = dir }, slices.Concat([]string{"build", recipe, "--json", "--cache", cache,
		"--lock", sovtest.SharedLock("arm64")}, sovtest.Emulated(), sovtest.FromMirror(), from)...)
	var report sovtest.BuildReport
	if err := json.Unmarshal([]byte(result.Stdout), &report); err != nil {
		t.Fatalf("%v: %v", err, result)
	}
	if built := strings.Join(report.Built(), " "); built != "bundle postgres rootfs" {
		t.Errorf("after a change it built %q", built)
	}
	t.Logf("after a change %d bytes were fetched", registry.Traffic().Out)
}

// TestSmallestRemote checks that every stage is a cache hit with mode=min, which stores much less.
func TestSmallestRemote(t *testing.T) {
	registry := registrytest.Start(t)
	sovtest.FillRegistry(t, registry, "min")
	size := registry.Size()
	t.Logf("the registry keeps %d bytes", size)
	if size > 120e6 {
		t.Errorf("the registry keeps %d bytes", size)
	}
	report, dir := sqlFrom(t, t.TempDir(), "--cache-from", registry.Repository("team/cache"))
	if built := report.Built(); len(built) > 0 {
		t.Errorf("it built %v", built)
	}
	sameArtifact(t, dir)
}

// TestRemoteFaults checks that a build gives the same files in bounded time with a faulty registry.
func TestRemoteFaults(t *testing.T) {
	kernel := sovtest.ArmKernel(t, sovtest.AllOptions())
	first := t.TempDir()
	if result := sovtest.SmallBuild(t, first, nil, "--kernel", kernel); result.Status != 0 {
		t.Fatal(result)
	}
	blobs := func(f registrytest.Fault) registrytest.Fault {
		return func(w http.ResponseWriter, req *http.Request) bool {
			return strings.Contains(req.URL.Path, "/blobs/") && f(w, req)
		}
	}
	tests := []struct {
		name  string
		fault func(r *registrytest.Registry)
		want  string // text in the build's messages, or ""
	}{
		{"spoilt blobs", func(r *registrytest.Registry) { r.Spoil(2000) }, "refused"},
		{"answers that are cut off", func(r *registrytest.Registry) { r.SetFault(blobs(r.Truncate)) }, "truncated"},
		{"a proxy that stalls", func(r *registrytest.Registry) { r.SetFault(blobs(registrytest.Stall)) }, "cannot be used"},
		{"killed and started again", func(r *registrytest.Registry) { killInTheMiddle(r, true) }, ""},
		{"killed for good", func(r *registrytest.Registry) { killInTheMiddle(r, false) }, "cannot be used"},
		{"full", func(r *registrytest.Registry) {
			r.SetFault(registrytest.Answer(http.StatusInsufficientStorage, "POST", "PUT", "PATCH"))
			for _, path := range r.Blobs() {
				os.Remove(path)
			}
		}, "does not accept uploads"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			registry := registrytest.Start(t)
			remote := registry.Repository("small")
			sender := t.TempDir()
			copyFile(t, filepath.Join(first, "sov.lock"), filepath.Join(sender, "sov.lock"))
			if result := sovtest.SmallBuild(t, sender, nil, "--kernel", kernel, "--cache-to", remote); result.Status != 0 || strings.Contains(result.Stderr, "remote cache 1") {
				t.Fatal(result)
			}
			tt.fault(registry)
			if strings.Contains(tt.name, "stalls") {
				remote += ",timeout=2s"
			}
			receiver := t.TempDir()
			copyFile(t, filepath.Join(first, "sov.lock"), filepath.Join(receiver, "sov.lock"))
			start := time.Now()
			result := sovtest.SmallBuild(t, receiver, nil, "--kernel", kernel, "--cache-from", remote, "--cache-to", remote)
			if result.Status != 0 || !strings.Contains(result.Stderr, tt.want) {
				t.Fatal(result)
			}
			// Reading and writing each stop after four times the timeout and a few pauses.
			if took := time.Since(start); took > 4*time.Minute {
				t.Errorf("it took %s: %v", took, result)
			}
			if n := strings.Count(result.Stderr, "cannot be used"); n > 1 {
				t.Errorf("warned %d times: %v", n, result)
			}
			if result := sovtest.Run(t, nil, "diff", filepath.Join(first, "out/small/arm64"), filepath.Join(receiver, "out/small/arm64")); result.Status != 0 {
				t.Error(result)
			}
			if result := sovtest.Run(t, nil, "cache", "verify", "--cache", filepath.Join(receiver, "cache")); result.Status != 0 {
				t.Error(result)
			}
		})
	}
}

// killInTheMiddle kills a registry during the download of the first blob.
func killInTheMiddle(registry *registrytest.Registry, restart bool) {
	var once sync.Once
	registry.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, "/blobs/") {
			once.Do(func() {
				go func() {
					registry.Stop()
					if restart {
						registry.Restart()
					}
				}()
				<-req.Context().Done()
			})
		}
		return false
	})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCarryACache exports a cache on one computer, imports it on another, and builds there without
// the network.
func TestCarryACache(t *testing.T) {
	kernel := sovtest.ArmKernel(t, sovtest.AllOptions())
	one, other := t.TempDir(), t.TempDir()
	if result := sovtest.SmallBuild(t, one, nil, "--kernel", kernel); result.Status != 0 {
		t.Fatal(result)
	}
	file := filepath.Join(other, "cache.tar")
	for _, args := range [][]string{
		{"cache", "export", "--last", file, "--cache", filepath.Join(one, "cache")},
		{"cache", "import", file, "--cache", filepath.Join(other, "cache")},
	} {
		if result := sovtest.Run(t, nil, args...); result.Status != 0 {
			t.Fatal(result)
		}
	}
	copyFile(t, filepath.Join(one, "sov.lock"), filepath.Join(other, "sov.lock"))
	if result := sovtest.SmallBuild(t, other, nil, "--kernel", kernel, "--offline"); result.Status != 0 || !strings.Contains(result.Stderr, "nothing to do") {
		t.Fatal(result)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"cut off": whole[:len(whole)/2], "changed": flip(whole), "something else": []byte("hello")} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		result := sovtest.Run(t, nil, "cache", "import", file, "--cache", filepath.Join(t.TempDir(), "cache"))
		if result.Status != 1 {
			t.Errorf("%s: %v", name, result)
		}
	}
}

// flip flips a bit in every 100 kB of b, which it returns.
func flip(b []byte) []byte {
	for i := 50_000; i < len(b); i += 100_000 {
		b[i] ^= 1
	}
	return b
}
