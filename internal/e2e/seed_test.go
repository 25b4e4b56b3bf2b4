package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/localvm"
)

// seed is the state of a machine that was started once, with an empty cluster: initdb takes longer than all the rest of a
// start, and tests of something else need not wait for it each.
var seed = sync.OnceValues(func() (string, error) {
	dir, result := builds["arm64"]()
	if result.status != 0 {
		return "", fmt.Errorf("build sql: %v", result)
	}
	state := filepath.Join(shared, "seed")
	vm, err := localvm.Start(context.Background(), localvm.Options{Artifact: dir, State: state, Now: time.Now})
	if err != nil {
		return "", err
	}
	err = vm.Ready(context.Background(), nil)
	if err == nil {
		err = vm.Shutdown(context.Background(), 2*time.Minute)
	}
	return state, errors.Join(err, vm.Close())
})

// seeded returns a state folder of the test's own in which the first start has been.
func seeded(t testing.TB) string {
	t.Helper()
	from, err := seed()
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "--sparse=always", from+"/.", state).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	return state
}
