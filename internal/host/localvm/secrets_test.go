package localvm

import (
	"maps"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

func TestSecretsToGive(t *testing.T) {
	plain := &vmspec.Spec{Name: "sql", Disks: []vmspec.Disk{{Role: vmspec.RoleData}}}
	encrypted := &vmspec.Spec{Name: "sql", Disks: []vmspec.Disk{{Role: vmspec.RoleData, Key: vmspec.KeyOnHost}}}
	kept := map[string][]byte{"postgres": []byte("a"), guestspec.ServiceTailscale: []byte("b"),
		guestspec.SecretDataKey: []byte("k"), guestspec.SecretOldDataKey: []byte("o")}
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

func TestUnready(t *testing.T) {
	s := &guestapi.Status{Services: []guestapi.Service{
		{Name: "a", State: guestapi.StateReady}, {Name: "b", State: guestapi.StateStarting}, {Name: "c", State: guestapi.StateOff},
		{Name: "d", State: guestapi.StateWaiting},
	}}
	if got := Unready(s); got != "b is starting; d is waiting" {
		t.Error(got)
	}
}
