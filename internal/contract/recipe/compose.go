package recipe

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A Source is the text of a recipe.
type Source struct {
	Name string // in messages
	Text []byte
	Dir  string // the folder of the file, for relative paths; empty if it is not a file
}

// A Variant selects a variant of a recipe.
type Variant struct {
	Arch     string   // selects by_arch; empty: none
	Profiles []string // applied in this order
	Set      []string // KEY=VALUE, see set
}

// maxBases is the maximum length of a chain of extends.
const maxBases = 8

// Compose reads a recipe and the recipes that it extends, and applies the variant. base reads the
// recipe that another one names in extends. The returned text is that of the composed recipe, which
// Parse can read without other files; if nothing was composed, it is the source itself.
func Compose(src Source, v Variant, base func(from Source, name string) (Source, error)) (*Recipe, []byte, error) {
	files, err := chain(src, base)
	if err != nil {
		return nil, nil, err
	}
	node, err := lay(src.Name, files, v)
	if err != nil {
		return nil, nil, err
	}
	text := src.Text
	if len(files) > 1 || len(v.Set) > 0 || files[0].varies() {
		text = node.Encode()
	}
	r := defaults()
	doc, err := strictyaml.DecodeNode(src.Name, node, r)
	if err != nil {
		return nil, nil, err
	}
	r.complete()
	check(r, doc)
	if err := doc.Err(); err != nil {
		return nil, nil, err
	}
	r.Dir, r.doc = src.Dir, doc
	for _, f := range files {
		r.ByArch.add(f.ByArch)
		r.Profiles.add(f.Profiles)
	}
	return r, text, nil
}

// overlays are named parts of recipes that override the rest of their file.
type overlays map[string]*strictyaml.Node

// Names are the names of the parts, in order.
func (o overlays) Names() []string { return slices.Sorted(maps.Keys(o)) }

func (o *overlays) add(more overlays) {
	if *o == nil && len(more) > 0 {
		*o = overlays{}
	}
	maps.Copy(*o, more)
}

// A part is one file of a recipe. Its Recipe has only the keys for composing.
type part struct {
	Recipe
	body *strictyaml.Node // all other keys
}

var compositionKeys = []string{"extends", "by_arch", "profiles"}

func (p part) varies() bool { return len(p.ByArch)+len(p.Profiles) > 0 }

// chain returns a file and the files that it extends, the base first.
func chain(src Source, base func(Source, string) (Source, error)) ([]part, error) {
	var files []part
	seen := []string{}
	for from := src; ; {
		if slices.Contains(seen, from.Name) {
			return nil, fmt.Errorf("%s: extends: %s extend each other in a circle: remove one extends", src.Name, strings.Join(seen, ", "))
		}
		seen = append(seen, from.Name)
		p, place, err := split(from)
		if err != nil {
			return nil, err
		}
		relocate(p.body, src.Dir, from.Dir)
		for _, overlay := range slices.Concat(values(p.ByArch), values(p.Profiles)) {
			relocate(overlay, src.Dir, from.Dir)
		}
		files = append(files, p)
		if p.Extends == "" {
			slices.Reverse(files)
			return files, nil
		}
		if len(files) > maxBases {
			return nil, strictyaml.Errors{{Place: place, Message: fmt.Sprintf("extends: more than %d recipes extend each other", maxBases)}}
		}
		if from, err = base(from, p.Extends); err != nil {
			return nil, strictyaml.Errors{{Place: place, Message: fmt.Sprintf("extends: %v", err)}}
		}
	}
}

func values(o overlays) []*strictyaml.Node { return slices.Collect(maps.Values(o)) }

// split reads one file, and returns the position of extends.
func split(src Source) (part, strictyaml.Place, error) {
	node, err := strictyaml.Parse(src.Name, src.Text)
	var place strictyaml.Place
	if node == nil {
		node = &strictyaml.Node{Place: strictyaml.Place{Name: src.Name}, Kind: strictyaml.Mapping}
	}
	if err != nil || node.Kind != strictyaml.Mapping {
		if err == nil {
			_, err = strictyaml.DecodeNode(src.Name, node, &Recipe{})
		}
		return part{}, place, err
	}
	p := part{body: &strictyaml.Node{Place: node.Place, Kind: strictyaml.Mapping}}
	heads := &strictyaml.Node{Place: node.Place, Kind: strictyaml.Mapping}
	for _, pair := range node.Pairs {
		if slices.Contains(compositionKeys, pair.Key) {
			heads.Pairs = append(heads.Pairs, pair)
		} else {
			p.body.Pairs = append(p.body.Pairs, pair)
		}
	}
	if v := heads.Get("extends"); v != nil {
		place = v.Place
	}
	doc, err := strictyaml.DecodeNode(src.Name, heads, &p.Recipe)
	if err != nil {
		return part{}, place, err
	}
	for name := range p.ByArch {
		at := strictyaml.Join("by_arch", name)
		if !arch.Valid(name) {
			doc.Faultf(at, "must be %s", arch.Allowed())
		}
		if v := p.ByArch[name].Get("name"); v != nil {
			doc.Fault(v.Place, at+".name: a machine has one name for all architectures")
		}
		overlay(doc, at, p.ByArch[name])
	}
	for name := range p.Profiles {
		overlay(doc, strictyaml.Join("profiles", name), p.Profiles[name])
	}
	return p, place, doc.Err()
}

// overlay records the faults of a part that can be checked alone.
func overlay(doc *strictyaml.Document, at string, n *strictyaml.Node) {
	if n.Kind != strictyaml.Mapping {
		doc.Fault(n.Place, at+": must be a mapping with keys of a recipe")
		return
	}
	for _, p := range n.Pairs {
		if slices.Contains(compositionKeys, p.Key) {
			doc.Fault(p.At, fmt.Sprintf("%s: %s is allowed only at the top of a recipe", at, p.Key))
			return
		}
	}
	alone, err := strictyaml.Merge(nil, n)
	if err == nil {
		_, err = strictyaml.DecodeNode("", alone, &Recipe{})
	}
	var faults strictyaml.Errors
	if errors.As(err, &faults) {
		for _, f := range faults {
			doc.Fault(f.Place, at+": "+f.Message)
		}
	}
}

// relocate converts the relative sources of a file to another folder.
func relocate(n *strictyaml.Node, to, from string) {
	if to == from || from == "" {
		return
	}
	for _, key := range []string{"files", "files" + strictyaml.Append, "go", "go" + strictyaml.Append} {
		list := n.Get(key)
		if list == nil {
			continue
		}
		for _, item := range list.Items {
			source := item.Get("source")
			if source == nil || filepath.IsAbs(source.Text) {
				continue
			}
			source.Text = filepath.Join(from, source.Text)
			if relative, err := filepath.Rel(cmp.Or(to, "."), source.Text); err == nil {
				source.Text = relative
			}
		}
	}
}

// lay merges all parts.
func lay(name string, files []part, v Variant) (node *strictyaml.Node, err error) {
	over := func(n *strictyaml.Node) {
		if err == nil && n != nil {
			node, err = strictyaml.Merge(node, n)
		}
	}
	for _, f := range files {
		over(f.body)
		over(f.ByArch[v.Arch])
	}
	for _, profile := range v.Profiles {
		known := map[string]bool{}
		for _, f := range files {
			over(f.Profiles[profile])
			for name := range f.Profiles {
				known[name] = true
			}
		}
		if !known[profile] {
			return nil, unknownName(name+": --profile", profile, slices.Sorted(maps.Keys(known)))
		}
	}
	for _, assignment := range v.Set {
		if err == nil {
			var n *strictyaml.Node
			if n, err = set(assignment, node); err == nil {
				over(n)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return node, nil
}

// unknownName returns the error for an unknown name, with a suggestion.
func unknownName(what, name string, known []string) error {
	if near := strictyaml.Nearest(name, known); near != "" {
		return fmt.Errorf("%s %q does not exist; did you mean %q?", what, name, near)
	}
	if len(known) == 0 {
		return fmt.Errorf("%s %q does not exist; the recipe has none", what, name)
	}
	return fmt.Errorf("%s %q does not exist; there are %s", what, name, strings.Join(known, ", "))
}
