package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestDataKeys: a machine whose key is not stored on the phone stays locked until root sends the
// key. A machine whose key is stored there uses only the stored key.
func TestDataKeys(t *testing.T) {
	vm := newVM(t)
	if err := os.MkdirAll(vm.Run(), 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Root: vm.Root(), Name: vm.Name, vm: vm, Output: os.Stderr}
	defer d.keys.close()
	spec := &vmspec.Spec{Disks: []vmspec.Disk{{Role: vmspec.RoleData, Key: vmspec.KeyOnHost}}}
	if _, err := d.secretsOf(spec); !errors.As(err, new(lockedError)) || !strings.Contains(err.Error(), "`sov start "+vm.Name+"`") {
		t.Errorf("without a key: %v", err)
	}
	if info, err := os.Stat(vm.Keys()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	for _, bad := range []string{"", "{}", `{"data-key": ""}`, `{"data-key": "k", "postgres": "p"}`, `{"data-key": 1}`, strings.Repeat("x", maxKeys+1)} {
		if err := sendKeys(t.Context(), vm, []byte(bad), nil); err == nil || strings.Contains(err.Error(), "k\"") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if err := sendKeys(t.Context(), vm, []byte(`{"data-key": "new", "data-key-old": "old"}`), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.keys.given:
	default:
		t.Error("the arrival of a key is not reported")
	}
	got, err := d.secretsOf(spec)
	if err != nil || got[guestspec.SecretDataKey] != "new" || got[guestspec.SecretOldDataKey] != "old" {
		t.Errorf("%v, %v", len(got), err)
	}

	spec.Disks[0].Key = vmspec.KeyOnPhone
	if _, err := d.secretsOf(spec); !errors.As(err, new(unfitError)) || !strings.Contains(err.Error(), "`sov push "+vm.Name+"`") {
		t.Errorf("a key that should be on the phone: %v", err)
	}
}
