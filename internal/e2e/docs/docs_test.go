package docs

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

func TestMain(m *testing.M) { sovtest.Main(m) }

// elsewhere are documents whose commands another test runs.
var elsewhere = map[string]string{
	"docs/try.md":       "the simulator's own test runs it word for word",
	"docs/bad-input.md": "its commands are mistakes, which tests type",
}

// TestDocuments runs the commands of every document. A subtest is a block, named by its line: one
// that needs no block before it can be run alone.
func TestDocuments(t *testing.T) {
	root := sovtest.Root()
	paths, err := documents(root)
	if err != nil {
		t.Fatal(err)
	}
	c := newComputer(t)
	for _, path := range paths {
		if why, ok := elsewhere[path]; ok {
			t.Logf("%s: %s", path, why)
			continue
		}
		t.Run(path, func(t *testing.T) {
			found, faults := blocks(filepath.Join(root, path), path)
			for _, fault := range faults {
				t.Error(fault)
			}
			if len(found) == 0 {
				return
			}
			r := c.reader(t)
			for _, b := range found {
				_, line, _ := strings.Cut(b.at, ":")
				t.Run(line, func(t *testing.T) {
					if err := r.read(b); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}
