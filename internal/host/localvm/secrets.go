package localvm

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// SecretsToGive returns the secrets that a machine gets when it runs here. The auth key of a
// tailnet is included only if tailnet is set, and is required then: the machine joins the tailnet
// as a separate node. Keys of an encrypted data disk are included if the machine has one.
func SecretsToGive(spec *vmspec.Spec, kept map[string][]byte, tailnet bool) (map[string]string, error) {
	if _, ok := kept[guestspec.ServiceTailscale]; tailnet && !ok {
		return nil, fmt.Errorf("--tailnet: no auth key is set: type `sov secrets set %s %s`", spec.Name, guestspec.ServiceTailscale)
	}
	secrets := map[string]string{}
	for secret, value := range kept {
		if recipe.StaysHere(secret) {
			continue
		}
		switch secret {
		case guestspec.ServiceTailscale:
			if !tailnet {
				continue
			}
		case guestspec.SecretDataKey, guestspec.SecretOldDataKey:
			if spec.DataKey() == "" {
				continue
			}
		}
		secrets[secret] = string(value)
	}
	return secrets, nil
}

// HasEncrypted reports whether a state folder has an encrypted disk of spec.
func HasEncrypted(state string, spec *vmspec.Spec) bool {
	for _, d := range spec.Disks {
		if d.Key == "" {
			continue
		}
		if _, err := os.Lstat(filepath.Join(state, diskName(d.Name))); err == nil {
			return true
		}
	}
	return false
}
