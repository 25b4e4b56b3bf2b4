// Package nametest has a table of valid and invalid names of machines. Each package that validates
// names from outside runs it against its own check.
package nametest

import (
	"strings"
	"testing"
)

// Valid are names that every package accepts.
var Valid = []string{
	"sql", "a", "0", "1st", "a1", "a-b", "a--b", "a-",
	strings.Repeat("a", 31), // the longest that recipes had
	strings.Repeat("a", 32), "1" + strings.Repeat("-", 31),
}

// Invalid are names that every package refuses.
var Invalid = []string{
	"", strings.Repeat("a", 33), strings.Repeat("a", 64), "-", "-a", "A", "sQL", "a.b", ".", "..", "a_b", "a b", " a", "a/b", "ä", "a\n", "a\x00",
}

// Allowed is what every refusal says.
const Allowed = "1 to 32 lower-case letters, digits and hyphens, the first a letter or a digit"

// Run calls check with each name. check returns what the package says to the name.
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
