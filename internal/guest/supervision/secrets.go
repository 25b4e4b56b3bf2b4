//go:build linux

package supervision

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
)

// secretEnvironment returns the environment of a service with the values of secrets. missing names
// the secrets of the service that do not exist; empty if none.
func secretEnvironment(spec guestspec.Service, secrets map[string]string) (env map[string]string, missing string) {
	env = maps.Clone(spec.Env)
	if env == nil {
		env = map[string]string{}
	}
	used := slices.Sorted(maps.Values(spec.SecretEnv))
	for variable, name := range spec.SecretEnv {
		env[variable] = secrets[name]
	}
	for _, f := range spec.Secrets {
		used = append(used, f.Secret)
	}
	for _, name := range used {
		if _, ok := secrets[name]; !ok {
			return env, fmt.Sprintf("its secret %s is not set: `sov secrets set` gives it to the machine, for the next start", name)
		}
	}
	return env, ""
}

// writeSecrets writes the files with the service's secrets.
func (s *service) writeSecrets() {
	for _, f := range s.spec.Secrets {
		if s.fault != "" {
			return
		}
		if err := filesystem.WriteSecret(f, s.sup.config.Secrets[f.Secret]); err != nil {
			s.fault = err.Error()
		}
	}
}
