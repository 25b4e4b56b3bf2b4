package sovtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/registrytest"
)

// FillRegistry exports the shared build of the sql recipe to a cache in a registry. mode is the
// cache's mode.
func FillRegistry(t testing.TB, registry *registrytest.Registry, mode string) {
	t.Helper()
	Artifact(t, "arm64")
	command := exec.Command(Program, slices.Concat([]string{"build", "sql", "-o", t.TempDir(), "--lock", SharedLock("arm64"),
		"--cache-to", registry.Repository("team/cache") + ",mode=" + mode}, Emulated(), FromMirror())...)
	if out, err := command.CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
		t.Fatalf("fill the registry: %v: %s", err, out)
	}
}
