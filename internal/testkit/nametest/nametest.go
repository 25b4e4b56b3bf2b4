// Package nametest provides valid and invalid names of machines. Each package that validates
// external names runs its check with them.
package nametest

import (
	"strings"
	"testing"
)

// Valid lists names that every package accepts.
var Valid = []string{
	"sql", "a", "0", "1st", "a1", "a-b", "a--b", "a-",
	strings.Repeat("a", 31), // the longest in earlier recipes
	strings.Repeat("a", 32), "1" + strings.Repeat("-", 31),
}

// Invalid lists names that every package rejects.
var Invalid = []string{
	"", strings.Repeat("a", 33), strings.Repeat("a", 64), "-", "-a", "A", "sQL", "a.b", ".", "..", "a_b", "a b", " a", "a/b", "ä", "a\n", "a\x00",
}

// Allowed is part of every error about an invalid name.
const Allowed = "1 to 32 lower-case letters, digits and hyphens, the first a letter or a digit"

// Run calls check with each name. check returns the package's error for a name.
func Run(t *testing.T, check func(name string) error) {
	t.Helper()
	for _, name := range Valid {
		if err := check(name); err != nil {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
	for _, name := range Invalid {
		if err := check(name); err == nil {
			t.Errorf("%q is accepted", name)
		} else if !strings.Contains(err.Error(), Allowed) {
			t.Errorf("%q: the refusal does not say what is allowed: %v", name, err)
		}
	}
}
