package build

import (
	"fmt"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/credentials"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/pipeline/remote"
)

// Remotes opens the remote caches that the settings cache_from and cache_to name, with the keys of
// cache_key (LoadCacheKeys), which unseal opens. In an offline build a cache on the network is an
// error if a flag names it; otherwise it is skipped, because a CI system sets the variables once
// for all jobs.
func Remotes(cacheFrom, cacheTo, cacheKey settings.Value, unseal dsse.Unseal, offline bool, getenv func(string) string) (remote.Options, error) {
	keys, err := LoadCacheKeys(cacheKey, unseal)
	if err != nil {
		return remote.Options{}, err
	}
	from, err := specs(cacheFrom, offline, remote.ParseSource)
	if err != nil {
		return remote.Options{}, err
	}
	to, err := specs(cacheTo, offline, remote.ParseTarget)
	if err != nil {
		return remote.Options{}, err
	}
	opener := remote.Opener{Keychain: credentials.Keychain(getenv), Trust: keys.Trust()}
	options, err := opener.Options(from, to)
	options.Believe = keys.Believe()
	return options, err
}

// specs reads the remote caches that a setting names.
func specs(value settings.Value, offline bool, parse func(string) (remote.Spec, error)) ([]remote.Spec, error) {
	var out []remote.Spec
	for _, text := range value.Values {
		spec, err := parse(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", value.Where, err)
		case !offline || spec.Local():
			out = append(out, spec)
		case value.From == settings.FromFlag:
			return nil, fmt.Errorf("--offline and %s %s exclude each other: this cache is beyond the network; one that is not is type=dir", value.Where, text)
		}
	}
	return out, nil
}
