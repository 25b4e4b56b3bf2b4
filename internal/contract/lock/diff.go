package lock

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kinds of pins, in the order of Diff's result.
const (
	KindImage     = "image"
	KindKernel    = "kernel"
	KindTailscale = "tailscale"
	KindFile      = "file"
	KindPackage   = "package"
)

// A Change is one pin in which two entries differ.
type Change struct {
	Kind string `json:"kind"`
	Name string `json:"name"`           // of the package, or a description
	From string `json:"from,omitempty"` // version or digest; empty: added
	To   string `json:"to,omitempty"`   // empty: removed
}

// String returns the change as a line, beginning with +, - or ~.
func (c Change) String() string {
	what := c.Kind + " " + c.Name
	switch {
	case c.From == "":
		return fmt.Sprintf("+ %s %s", what, c.To)
	case c.To == "":
		return fmt.Sprintf("- %s %s", what, c.From)
	}
	return fmt.Sprintf("~ %s %s → %s", what, c.From, c.To)
}

// Diff lists how the pins of two entries for the same recipe and architecture
// differ.
func Diff(from, to *Entry) []Change {
	var out []Change
	note := func(kind, name, a, b string) {
		if a != b {
			out = append(out, Change{kind, name, a, b})
		}
	}
	note(KindImage, to.Image.Reference, from.Image.Digest, to.Image.Digest)
	for _, i := range from.Copied {
		note(KindImage, i.Reference, i.Digest, to.copied(i.Reference))
	}
	for _, i := range to.Copied {
		if from.copied(i.Reference) == "" {
			note(KindImage, i.Reference, "", i.Digest)
		}
	}
	a, b := from.Kernel.pin(), to.Kernel.pin()
	if a != "" && b != "" && from.Kernel.Version != to.Kernel.Version {
		a, b = from.Kernel.Version, to.Kernel.Version // the versions are more readable
	}
	note(KindKernel, "linux", a, b)
	note(KindTailscale, "tailscale.com", from.Tailscale, to.Tailscale)
	digests := func(files []RecipeFile) map[string]string {
		of := map[string]string{}
		for _, f := range files {
			of[f.Path] = "sha256:" + f.SHA256
		}
		return of
	}
	before, after := digests(from.Files), digests(to.Files)
	paths := slices.Collect(maps.Keys(before))
	for path := range after {
		if _, both := before[path]; !both {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range paths {
		note(KindFile, path, before[path], after[path])
	}
	return append(out, diffPackages(from.Packages, to.Packages)...)
}

// copied returns the digest of an image that files are copied from; "" if there is none.
func (e *Entry) copied(reference string) string {
	for _, i := range e.Copied {
		if i.Reference == reference {
			return i.Digest
		}
	}
	return ""
}

// pin returns what identifies a kernel's source.
func (k *Kernel) pin() string {
	if k == nil {
		return ""
	}
	return fmt.Sprintf("%s (sha256:%.12s…)", k.Version, k.SHA256)
}

func diffPackages(from, to []Package) []Change {
	pins := map[string][2]string{}
	for i, list := range [][]Package{from, to} {
		for _, p := range list {
			pin := pins[p.Name]
			pin[i] = p.Version + "\x00" + p.Checksum
			pins[p.Name] = pin
		}
	}
	var out []Change
	for name, pin := range pins {
		if pin[0] == pin[1] {
			continue
		}
		a, sumA, _ := strings.Cut(pin[0], "\x00")
		b, sumB, _ := strings.Cut(pin[1], "\x00")
		if a == b { // the same version, rebuilt
			a, b = a+" ("+sumA+")", b+" ("+sumB+")"
		}
		out = append(out, Change{KindPackage, name, a, b})
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Name, b.Name) })
	return out
}
