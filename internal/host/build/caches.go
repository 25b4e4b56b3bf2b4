package build

import (
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/host/credentials"
	"github.com/sovereign-sql/sov/pipeline/remote"
)

// Remotes opens the remote caches that --cache-from and --cache-to name. Where a flag is not given,
// those in SOV_CACHE_FROM and SOV_CACHE_TO are used, separated by spaces: what a CI system sets
// once for all jobs. LoadCacheKeys says what cacheKeys are.
func Remotes(cacheFrom, cacheTo, cacheKeys []string, offline bool, getenv func(string) string) (remote.Options, error) {
	keys, err := LoadCacheKeys(cacheKeys, getenv)
	if err != nil {
		return remote.Options{}, err
	}
	from, err := specs("--cache-from", cacheFrom, "SOV_CACHE_FROM", offline, getenv, remote.ParseSource)
	if err != nil {
		return remote.Options{}, err
	}
	to, err := specs("--cache-to", cacheTo, "SOV_CACHE_TO", offline, getenv, remote.ParseTarget)
	if err != nil {
		return remote.Options{}, err
	}
	opener := remote.Opener{Keychain: credentials.Keychain(getenv), Trust: keys.Trust()}
	options, err := opener.Options(from, to)
	options.Believe = keys.Believe()
	return options, err
}

// specs reads the remote caches that a flag or, in its place, a variable names. What is beyond the
// network is an error in an offline build if it was asked for by the flag, and else left out.
func specs(flag string, values []string, variable string, offline bool, getenv func(string) string, parse func(string) (remote.Spec, error)) ([]remote.Spec, error) {
	name := flag
	if len(values) == 0 {
		name, values = "$"+variable, strings.Fields(getenv(variable))
	}
	var out []remote.Spec
	for _, text := range values {
		spec, err := parse(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		case !offline || spec.Local():
			out = append(out, spec)
		case name == flag:
			return nil, fmt.Errorf("--offline: %s %s is beyond the network", name, text)
		}
	}
	return out, nil
}
