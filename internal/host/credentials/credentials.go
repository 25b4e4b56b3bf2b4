// Package credentials finds credentials for registries. It does not connect to registries.
package credentials

import (
	"github.com/google/go-containerregistry/pkg/authn"
)

// Keychain finds a registry's credentials in SOV_REGISTRY_USER and SOV_REGISTRY_PASSWORD for the
// registry in SOV_REGISTRY, in the variables of a GitLab job for its project's registry, in those
// of a GitHub job for GitHub's, and in Docker's configuration, including credential helpers. getenv
// reads the environment.
func Keychain(getenv func(name string) string) authn.Keychain {
	return authn.NewMultiKeychain(environment(getenv), authn.DefaultKeychain)
}

// environment is the keychain of environment variables.
type environment func(name string) string

// sets are the variables that name a registry, a user and a password. The first set with the
// registry and a password is used.
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
		// They are not sent to other registries.
		if host != "" && host == target.RegistryStr() && user != "" && password != "" {
			return authn.FromConfig(authn.AuthConfig{Username: user, Password: password}), nil
		}
	}
	return authn.Anonymous, nil
}
