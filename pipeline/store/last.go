package store

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// A StageKey is the key of a stage in a build.
type StageKey struct {
	Key    string  `json:"key"`
	Fields []Field `json:"fields"`
}

// lastFile holds the keys of the last build of a scope.
type lastFile struct {
	Stages map[string]StageKey `json:"stages"`
}

func (s *Store) lastPath(scope string) string {
	name := url.PathEscape(scope)
	if len(name) > 200 {
		name = DigestOf([]byte(scope)).Hex()
	}
	return filepath.Join(s.dir, "last", name+".json")
}

// Last returns the keys of the last build of a scope, by stage. Only explanations use them, so keys
// that cannot be read count as missing.
func (s *Store) Last(scope string) map[string]StageKey {
	if scope == "" {
		return nil
	}
	b, err := os.ReadFile(s.lastPath(scope))
	var last lastFile
	if err != nil || unseal(b, &last) != nil {
		return nil
	}
	return last.Stages
}

// SetLast stores the keys of the last build of a scope.
func (s *Store) SetLast(scope string, stages map[string]StageKey) error {
	b, err := seal(lastFile{stages})
	if err == nil {
		err = s.writeFile(s.lastPath(scope), b)
	}
	if err != nil {
		return fmt.Errorf("remember this build of %s: %w", scope, err)
	}
	return nil
}

// lastKeys returns the keys of the last build of every scope. The file of a scope whose name is too
// long is named by a digest.
func (s *Store) lastKeys() map[string][]string {
	paths, _ := filepath.Glob(filepath.Join(s.dir, "last", "*.json"))
	keys := map[string][]string{}
	for _, p := range paths {
		var last lastFile
		if b, err := os.ReadFile(p); err != nil || unseal(b, &last) != nil {
			continue
		}
		scope, err := url.PathUnescape(strings.TrimSuffix(filepath.Base(p), ".json"))
		if err != nil {
			continue
		}
		for _, st := range last.Stages {
			keys[scope] = append(keys[scope], st.Key)
		}
	}
	return keys
}
