package guesttest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// seeds maps an architecture to a function that starts a machine once.
var seeds sync.Map

// Seed returns the state folder of a machine that was started once, with an empty cluster. initdb
// takes longer than the rest of a start, and tests of other things need not wait for it.
func Seed(t testing.TB, arch string) string {
	t.Helper()
	options := localvm.Options{Artifact: sovtest.Artifact(t, arch), State: filepath.Join(sovtest.Shared, "seed-"+arch), Now: time.Now}
	once, _ := seeds.LoadOrStore(arch, sync.OnceValue(func() error {
		vm, err := localvm.Start(t.Context(), options)
		if err != nil {
			return err
		}
		err = vm.Ready(t.Context(), nil)
		if err == nil {
			err = vm.Shutdown(t.Context(), 5*time.Minute)
		}
		return errors.Join(err, vm.Close())
	}))
	if err := once.(func() error)(); err != nil {
		t.Fatalf("start a machine for the first time: %v", err)
	}
	return options.State
}

// Seeded returns a new state folder with the state after a first start.
func Seeded(t testing.TB, arch string) string {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	CopySparse(t, Seed(t, arch)+"/.", state)
	return state
}

// CopySparse copies a file or folder like cp and keeps holes.
func CopySparse(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
}
