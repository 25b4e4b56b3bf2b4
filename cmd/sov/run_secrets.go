package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/localvm"
)

// secrets are those that the user keeps for the machine and wants it to have.
func (f runFlags) secrets(c *cobra.Command, spec *vmspec.Spec) (map[string]string, error) {
	store, err := openSecrets(f.identity)
	if err != nil {
		return nil, err
	}
	kept, err := store.All(c.Context(), spec.Name)
	if err != nil {
		return nil, err
	}
	if _, ok := kept[guestspec.ServiceTailscale]; f.tailnet && !ok {
		return nil, fmt.Errorf("--tailnet: there is no auth key: sov secrets set %s %s", spec.Name, guestspec.ServiceTailscale)
	}
	secrets := map[string]string{}
	for name, value := range kept {
		if name != guestspec.ServiceTailscale || f.tailnet {
			secrets[name] = string(value)
		}
	}
	return secrets, nil
}

// whichPassword says what a person has to give psql, besides the URL.
func whichPassword(vm *localvm.VM) string {
	if vm.HasPasswordFile() {
		return ""
	}
	return "; the password is the secret postgres: it holds a line break, which no password file can"
}
