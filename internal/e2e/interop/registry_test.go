package interop

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// distribution starts the CNCF's registry, on which most others are based, and returns its address.
func distribution(t *testing.T) string {
	t.Helper()
	config := &configuration.Configuration{
		Storage: configuration.Storage{"filesystem": {"rootdirectory": t.TempDir()}},
	}
	config.HTTP.Secret = "of this test alone"
	config.Log.Level = "error"
	server := httptest.NewServer(handlers.NewApp(t.Context(), config))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestDistribution stores the cache of a build in a third-party registry and builds on another
// computer from that cache alone. It also publishes the signed machine there and pulls it.
func TestDistribution(t *testing.T) {
	address := distribution(t)
	cache := address + "/team/cache"
	kernel := sovtest.ArmKernel(t, sovtest.AllOptions())
	one, other := t.TempDir(), t.TempDir()
	if built := sovtest.SmallBuild(t, one, nil, "--kernel", kernel, "--cache-to", cache+",mode=max"); built.Status != 0 || strings.Contains(built.Stderr, "warning") {
		t.Fatal(built)
	}
	lock, err := os.ReadFile(filepath.Join(one, "sov.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "sov.lock"), lock, 0o644); err != nil {
		t.Fatal(err)
	}
	again := sovtest.SmallBuild(t, other, nil, "--kernel", kernel, "--cache-from", cache)
	if again.Status != 0 || !strings.Contains(again.Stderr, "nothing to do") {
		t.Fatal(again)
	}
	const artifact = "out/small/arm64"
	if same := sovtest.Run(t, nil, "diff", filepath.Join(one, artifact), filepath.Join(other, artifact)); same.Status != 0 {
		t.Error(same)
	}

	in := func(dir string, want int, args ...string) sovtest.Outcome {
		t.Helper()
		o := sovtest.Run(t, func(c *exec.Cmd) { c.Dir = dir }, args...)
		if o.Status != want {
			t.Fatalf("sov %s: want status %d: %v", args[0], want, o)
		}
		return o
	}
	in(one, 0, "key", "new", "key.pem")
	public := in(one, 0, "key", "public", "key.pem").Stdout
	in(one, 0, "sign", artifact, "--key", "key.pem", "--reference", address+"/team/small:1")
	in(one, 0, "publish", "small", address+"/team/small:1")
	fresh := t.TempDir()
	if err := os.WriteFile(filepath.Join(fresh, "sov.pub"), []byte(public), 0o644); err != nil {
		t.Fatal(err)
	}
	in(fresh, 0, "pull", address+"/team/small:1", "--key", "sov.pub")
	in(fresh, 0, "diff", filepath.Join(one, artifact), artifact)
	in(fresh, 0, "key", "new", "other.pem")
	foreign := in(fresh, 0, "key", "public", "other.pem").Stdout
	if err := os.WriteFile(filepath.Join(fresh, "other.pub"), []byte(foreign), 0o644); err != nil {
		t.Fatal(err)
	}
	in(fresh, 3, "pull", address+"/team/small:1", "--key", "other.pub", "-o", "new")
}
