package localvm

import (
	"maps"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

func TestSecretsToGive(t *testing.T) {
	kept := map[string][]byte{"postgres": []byte("a"), guestspec.ServiceTailscale: []byte("b")}
	got, err := SecretsToGive("sql", kept, false)
	if err != nil || !maps.Equal(got, map[string]string{"postgres": "a"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := SecretsToGive("sql", kept, true); err != nil || len(got) != 2 {
		t.Errorf("with the tailnet: %v, %v", got, err)
	}
	delete(kept, guestspec.ServiceTailscale)
	if _, err := SecretsToGive("sql", kept, true); err == nil {
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
