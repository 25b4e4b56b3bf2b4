package packages

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/apk"
)

// alpineKeyFiles are the keys that sign Alpine's repositories, by architecture, from
// /usr/share/apk/keys of its release 3.20. Alpine's images for both architectures have the same
// keys.
//
//go:embed alpine-keys
var alpineKeyFiles embed.FS

// alpineKeys returns Alpine's keys for an architecture (Go's name).
func alpineKeys(arch string) (apk.Keys, error) {
	dir := path.Join("alpine-keys", AlpineArch(arch))
	files, err := alpineKeyFiles.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("find the keys of Alpine for %s: %w", arch, err)
	}
	texts := map[string]string{}
	for _, f := range files {
		text, err := alpineKeyFiles.ReadFile(path.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		texts[f.Name()] = string(text)
	}
	return parseKeys("Alpine", texts)
}

func parseKeys(whose string, texts map[string]string) (apk.Keys, error) {
	keys := apk.Keys{}
	for name, text := range texts {
		key, err := apk.ParseKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("key %s of %s: %w", name, whose, err)
		}
		keys[name] = key
	}
	return keys, nil
}

// isAlpines reports whether a repository is one of Alpine's own servers.
func isAlpines(repository string) bool {
	u, err := url.Parse(repository)
	if err != nil {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	return host == "alpinelinux.org" || strings.HasSuffix(host, ".alpinelinux.org")
}

// trustedKeys returns the keys that may sign a repository's index: for Alpine's own servers those
// that this program has, for others those of the base image, and the recipe's for both. A replaced
// base image can therefore not add a signer for Alpine's servers.
func (r Request) trustedKeys(repository string) (apk.Keys, error) {
	keys, err := parseKeys("the recipe", r.Keys)
	if err != nil {
		return nil, err
	}
	var more apk.Keys
	if isAlpines(repository) {
		more, err = alpineKeys(r.Arch)
	} else if more, err = apk.KeysFromTree(r.Base); err != nil {
		err = fmt.Errorf("read the base image's keys: %w", err)
	}
	if err != nil {
		return nil, err
	}
	for name, key := range maps.All(more) {
		if keys[name] == nil { // the recipe's key of the same name takes precedence
			keys[name] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key to check package indexes with: the base image has none in /etc/apk/keys (is it Alpine?) and the recipe none in packages.keys")
	}
	return keys, nil
}
