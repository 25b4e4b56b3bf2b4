package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/taken"
	"github.com/sovereign-sql/sov/internal/host/build"
	"github.com/sovereign-sql/sov/internal/host/settings"
)

// cacheKeyFlags adds the flags for signed results of remote caches. allow may be nil.
func cacheKeyFlags(c *cobra.Command, keys *[]string, passphrase *passphraseFile, allow *bool) {
	passphraseFlag(c, passphrase)
	c.Flags().StringArrayVar(keys, "cache-key", nil, "use only results of remote caches that are signed with this key (a public key's file, see sov key); a private key also signs uploads; may be repeated (default: $SOV_CACHE_KEY)")
	if allow != nil {
		allowUnsignedFlag(c, allow)
	}
}

func allowUnsignedFlag(c *cobra.Command, allow *bool) {
	c.Flags().BoolVar(allow, "allow-unsigned-cache", false, "sign a machine even if it contains unsigned results of remote caches")
}

// cacheKeys loads the keys that the flag or the setting cache_key names.
func cacheKeys(ctx context.Context, files []string, passphrase passphraseFile) (build.CacheKeys, error) {
	s, err := settings.Load(os.Getenv)
	if err != nil {
		return build.CacheKeys{}, err
	}
	unseal, err := passphrase.unseal(ctx)
	if err != nil {
		return build.CacheKeys{}, err
	}
	return build.LoadCacheKeys(s.Get(settings.CacheKey, files...), unseal)
}

// refuseUnsigned returns a check's error for the first artifact with parts from remote caches that
// were not signed.
func refuseUnsigned(allow bool, dirs ...string) error {
	for _, dir := range dirs {
		err := taken.Check(dir)
		if errors.As(err, new(*taken.UnsignedError)) {
			if allow {
				continue
			}
			return foundf("%v", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
