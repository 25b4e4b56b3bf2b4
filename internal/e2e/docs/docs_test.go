package docs

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

func TestMain(m *testing.M) { sovtest.Main(m) }

// elsewhere maps documents whose commands another test runs to the reason.
var elsewhere = map[string]string{
	"docs/try.md":       "the simulator's own test runs it word for word",
	"docs/bad-input.md": "its commands are mistakes, which tests type",
}

// TestDocuments runs the commands of every document. A subtest is a block, named by its line. A
// block that does not depend on earlier blocks can run alone. Documents that need a phone run one
// after another, in parallel with the others.
func TestDocuments(t *testing.T) {
	t.Parallel()
	root := sovtest.Root()
	paths, err := documents(root)
	if err != nil {
		t.Fatal(err)
	}
	c := newComputer(t)
	streams := map[bool][]document{} // by whether they need a phone
	for _, path := range paths {
		if why, ok := elsewhere[path]; ok {
			t.Logf("%s: %s", path, why)
			continue
		}
		d := document{path: path}
		d.blocks, d.faults = blocks(filepath.Join(root, path), path)
		streams[d.needsPhone()] = append(streams[d.needsPhone()], d)
	}
	var readers sync.WaitGroup
	for _, stream := range streams {
		readers.Go(func() {
			for _, d := range stream {
				t.Run(d.path, func(t *testing.T) { d.read(t, c) })
			}
		})
	}
	readers.Wait()
}

// A document consists of its blocks and the errors in it.
type document struct {
	path   string
	blocks []block
	faults []error
}

// needsPhone reports whether one of the document's blocks needs a phone.
func (d document) needsPhone() bool {
	return slices.ContainsFunc(d.blocks, func(b block) bool {
		return slices.ContainsFunc(b.needs, func(need string) bool { return need == "group" || strings.Contains(need, "phone") })
	})
}

// read runs the commands of a document.
func (d document) read(t *testing.T, c *computer) {
	for _, fault := range d.faults {
		t.Error(fault)
	}
	if len(d.blocks) == 0 {
		return
	}
	r := c.reader(t)
	for _, b := range d.blocks {
		_, line, _ := strings.Cut(b.at, ":")
		t.Run(line, func(t *testing.T) {
			if err := r.read(b); err != nil {
				t.Error(err)
			}
		})
	}
}
