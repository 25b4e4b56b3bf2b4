package localvm

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

func TestSecretsToGive(t *testing.T) {
	plain := &vmspec.Spec{Name: "sql", Disks: []vmspec.Disk{{Role: vmspec.RoleData}}}
	encrypted := &vmspec.Spec{Name: "sql", Disks: []vmspec.Disk{{Role: vmspec.RoleData, Key: vmspec.KeyOnHost}}}
	kept := map[string][]byte{"postgres": []byte("a"), guestspec.ServiceTailscale: []byte("b"),
		recipe.SecretTailscaleAPI: []byte("t"), guestspec.SecretDataKey: []byte("k"), guestspec.SecretOldDataKey: []byte("o")}
	got, err := SecretsToGive(plain, kept, false)
	if err != nil || !maps.Equal(got, map[string]string{"postgres": "a"}) {
		t.Errorf("%v, %v", got, err)
	}
	got, err = SecretsToGive(encrypted, kept, false)
	if err != nil || len(got) != 3 || got[guestspec.SecretDataKey] != "k" || got[guestspec.SecretOldDataKey] != "o" {
		t.Errorf("with an encrypted disk: %v, %v", got, err)
	}
	if got, err := SecretsToGive(plain, kept, true); err != nil || len(got) != 2 {
		t.Errorf("with the tailnet: %v, %v", got, err)
	}
	delete(kept, guestspec.ServiceTailscale)
	if _, err := SecretsToGive(plain, kept, true); err == nil {
		t.Error("a tailnet without its key")
	}
}

// TestHasEncrypted: a key may be made only if no encrypted disk exists.
func TestHasEncrypted(t *testing.T) {
	spec := &vmspec.Spec{Disks: []vmspec.Disk{{Role: vmspec.RoleData}, {Role: vmspec.RoleVolume, Name: "media", Key: vmspec.KeyOnPhone}}}
	state := t.TempDir()
	for _, tt := range []struct {
		file string
		want bool
	}{{"data.img", false}, {"volume-other.img", false}, {"volume-media.img", true}} {
		if err := os.WriteFile(filepath.Join(state, tt.file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := HasEncrypted(state, spec); got != tt.want {
			t.Errorf("with %s: %t", tt.file, got)
		}
	}
	spec.Disks[1].Key = ""
	if HasEncrypted(state, spec) {
		t.Error("no disk is encrypted")
	}
}

func TestUnready(t *testing.T) {
	s := &guestapi.Status{Services: []guestapi.Service{
		{Name: "a", State: guestapi.StateReady}, {Name: "b", State: guestapi.StateStarting}, {Name: "c", State: guestapi.StateOff},
		{Name: "d", State: guestapi.StateWaiting},
	}}
	if got := Unready(s); got != "b is starting; d is waiting" {
		t.Error(got)
	}
}
