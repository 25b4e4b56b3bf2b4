package localvm

import (
	"fmt"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// SecretsToGive returns those of a machine's secrets that it gets when it runs here. The auth key
// of a tailnet is given only with tailnet, and must be among them then: a machine that runs here
// would join as a node of its own.
func SecretsToGive(name string, kept map[string][]byte, tailnet bool) (map[string]string, error) {
	if _, ok := kept[guestspec.ServiceTailscale]; tailnet && !ok {
		return nil, fmt.Errorf("--tailnet: no auth key is set: type `sov secrets set %s %s`", name, guestspec.ServiceTailscale)
	}
	secrets := map[string]string{}
	for secret, value := range kept {
		if secret != guestspec.ServiceTailscale || tailnet {
			secrets[secret] = string(value)
		}
	}
	return secrets, nil
}
