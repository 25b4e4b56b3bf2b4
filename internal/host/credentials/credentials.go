// Package credentials finds what a registry asks for before it gives access. It does not talk
// to registries.
package credentials

import (
	"github.com/google/go-containerregistry/pkg/authn"
)

// Keychain finds a registry's credentials where CI systems and people put them: in
// SOV_REGISTRY_USER and SOV_REGISTRY_PASSWORD for the registry that SOV_REGISTRY names, in what a
// GitLab job is given for its project's registry, in what a GitHub job may hand on for GitHub's,
// and in Docker's configuration, credential helpers included. getenv reads the environment.
func Keychain(getenv func(name string) string) authn.Keychain {
	return authn.NewMultiKeychain(environment(getenv), authn.DefaultKeychain)
}

// environment is the keychain of environment variables.
type environment func(name string) string

// sets are the variables that name a registry, a user and a password. The first set that names the
// registry and has a password counts.
var sets = []struct{ registry, host, user, fallback, password string }{
	{registry: "SOV_REGISTRY", user: "SOV_REGISTRY_USER", password: "SOV_REGISTRY_PASSWORD"},
	// https://docs.gitlab.com/ci/variables/predefined_variables/
	{registry: "CI_REGISTRY", user: "CI_REGISTRY_USER", password: "CI_REGISTRY_PASSWORD"},
	// https://docs.github.com/actions/reference/workflows-and-actions/variables
	{host: "ghcr.io", user: "GITHUB_ACTOR", fallback: "unset", password: "GITHUB_TOKEN"},
}

// Resolve implements authn.Keychain.
func (env environment) Resolve(target authn.Resource) (authn.Authenticator, error) {
	for _, s := range sets {
		host := s.host
		if s.registry != "" {
			host = env(s.registry)
		}
		user, password := env(s.user), env(s.password)
		if user == "" {
			user = s.fallback
		}
		// No other registry is shown them.
		if host != "" && host == target.RegistryStr() && user != "" && password != "" {
			return authn.FromConfig(authn.AuthConfig{Username: user, Password: password}), nil
		}
	}
	return authn.Anonymous, nil
}
