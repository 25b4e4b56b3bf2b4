package credentials

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

func TestKeychain(t *testing.T) {
	env := map[string]string{
		"SOV_REGISTRY": "mine.example.com", "SOV_REGISTRY_USER": "me", "SOV_REGISTRY_PASSWORD": "secret",
		"CI_REGISTRY": "gitlab.example.com", "CI_REGISTRY_USER": "job", "CI_REGISTRY_PASSWORD": "token",
		"GITHUB_TOKEN": "github",
	}
	keychain := environment(func(name string) string { return env[name] })
	for repository, want := range map[string]authn.AuthConfig{
		"mine.example.com/a":   {Username: "me", Password: "secret"},
		"gitlab.example.com/a": {Username: "job", Password: "token"},
		"ghcr.io/a":            {Username: "unset", Password: "github"},
		"other.example.com/a":  {},
		"mine.example.com:1/a": {},
	} {
		repo, err := name.NewRepository(repository)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := keychain.Resolve(repo)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := auth.Authorization(); err != nil || !cmp.Equal(*got, want) {
			t.Errorf("%s: %+v, %v", repository, got, err)
		}
	}
}
