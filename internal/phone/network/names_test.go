package network

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/nametest"
)

func TestNames(t *testing.T) {
	nametest.Run(t, func(name string) error {
		vm := sql(Scoped)
		vm.Name = name
		return vm.validate()
	})
}

func TestLedgerOwners(t *testing.T) {
	nametest.Run(t, func(name string) error {
		text, err := json.Marshal(map[string]any{"kind": "tap", "link": "vm_sql", "owners": []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeEntry(text)
		return err
	})
}

// TestChainNames: machine names of any length have distinct chains whose names fit iptables.
func TestChainNames(t *testing.T) {
	seen := map[string]string{}
	for _, name := range nametest.Valid {
		for _, purpose := range []string{"fwd", "post", "pre"} {
			chain, who := chainName(name, purpose), fmt.Sprintf("%s of %s", purpose, name)
			if len(chain) > maxChain || seen[chain] != "" {
				t.Errorf("%s: chain %q of %d bytes, also of %q", who, chain, len(chain), seen[chain])
			}
			seen[chain] = who
		}
	}
}
