package localvm

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRunning: every process finds a running machine. The leftover files of a killed machine are
// not a running one.
func TestRunning(t *testing.T) {
	base := t.TempDir()
	o := options(t, idle)
	spec, err := ReadSpec(o.Artifact)
	if err != nil {
		t.Fatal(err)
	}
	o.State = filepath.Join(base, runFolder, "x-"+spec.Arch)
	if r, err := Find(base, spec.Name); r != nil || err != nil {
		t.Errorf("before any: %+v, %v", r, err)
	}
	vm, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	r, err := Find(base, spec.Name)
	if err != nil || r == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.PID != os.Getpid() || r.QEMU != vm.PID() || r.URL != vm.URL() || r.State != o.State || len(r.Token) < 32 || !r.Endpoint.IsValid() {
		t.Errorf("%+v", r)
	}
	if r, err := Find(base, "another"); r != nil || err != nil {
		t.Errorf("another name: %+v, %v", r, err)
	}
	path := filepath.Join(o.State, runningName)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	left, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it outlives the machine: %v", err)
	}
	if err := os.WriteFile(path, left, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := List(base); len(list) != 0 || err != nil {
		t.Errorf("what a killed one left: %+v, %v", list, err)
	}
}
