package localvm

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// SecretsToGive returns those of a machine's secrets that it gets when it runs here. The auth key
// of a tailnet is given only with tailnet, and must be among them then: a machine that runs here
// would join as a node of its own. Keys of an encrypted data disk are given to a machine that has
// one.
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

// HasEncrypted reports whether a state folder has one of the disks of spec that a key opens.
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
