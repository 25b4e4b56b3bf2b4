package apk

import (
	"fmt"
	"strings"
)

// An Op is the set of relations that the version of a provider may have to the version a dependency
// names: ">=" is OpGreater|OpEqual.
type Op uint8

// The relations. OpFuzzy, apk's "~", widens "equal" to any version that begins with the named
// components. OpNone accepts every version.
const (
	OpEqual Op = 1 << iota
	OpLess
	OpGreater
	OpFuzzy
	OpNone Op = 0
)

// opChecksum is apk's "><": a package's checksum follows instead of a version.
const opChecksum = OpLess | OpGreater

// opCharacters are the bytes that end a dependency's name and form its operator.
const opCharacters = "<>=~"

// String returns the operator in apk's notation.
func (o Op) String() string {
	if o&^OpEqual == OpFuzzy {
		return "~"
	}
	var s string
	for _, c := range []struct {
		bit  Op
		text string
	}{{OpGreater, ">"}, {OpLess, "<"}, {OpEqual, "="}, {OpFuzzy, "~"}} {
		if o&c.bit != 0 {
			s += c.text
		}
	}
	return s
}

// A Dep is one word of a dependency list: a name that a package or the world file requires,
// conflicts with, provides, replaces, or has in install_if. As an entry of Package.Provides its Op
// is OpEqual or OpNone.
type Dep struct {
	Name     string // a package's name, or a virtual one such as "so:libc.musl-x86_64.so.1"
	Op       Op
	Version  string // empty if and only if Op is OpNone
	Conflict bool   // "!name": no package that matches may be installed
	Tag      string // "name@tag": may come from repositories with this tag; world only
}

// ParseDep reads one dependency: [!]name[@tag][operator version].
func ParseDep(s string) (Dep, error) {
	d, err := parseDep(s)
	if err != nil {
		return Dep{}, fmt.Errorf("dependency %q: %w", s, err)
	}
	return d, nil
}

func parseDep(s string) (Dep, error) {
	var d Dep
	s, d.Conflict = strings.CutPrefix(s, "!")
	if strings.ContainsAny(s, " \t\r\n") {
		return d, fmt.Errorf("contains white space")
	}
	d.Name = s
	if i := strings.IndexAny(s, opCharacters); i >= 0 {
		d.Name = s[:i]
		d.Version = strings.TrimLeft(s[i:], opCharacters)
		for _, c := range s[i : len(s)-len(d.Version)] {
			d.Op |= 1 << strings.IndexRune("=<>~", c)
		}
		if d.Op&OpFuzzy != 0 {
			d.Op |= OpEqual
		}
		if d.Version == "" {
			return d, fmt.Errorf("has an operator but no version")
		}
	}
	if name, tag, ok := strings.Cut(d.Name, "@"); ok {
		if tag == "" {
			return d, fmt.Errorf("has an empty repository tag")
		}
		d.Name, d.Tag = name, tag
	}
	if d.Name == "" {
		return d, fmt.Errorf("has no name")
	}
	if d.Op == opChecksum {
		_, err := ParseChecksum(d.Version)
		return d, err
	}
	if d.Op != OpNone && !ValidVersion(d.Version) {
		return d, fmt.Errorf("version %q is malformed", d.Version)
	}
	return d, nil
}

// ParseDeps reads dependencies separated by white space. An empty text is an empty list.
func ParseDeps(s string) ([]Dep, error) {
	var deps []Dep
	for _, word := range strings.Fields(s) {
		d, err := ParseDep(word)
		if err != nil {
			return nil, err
		}
		deps = append(deps, d)
	}
	return deps, nil
}

// String returns d in the notation that ParseDep reads.
func (d Dep) String() string {
	var b strings.Builder
	if d.Conflict {
		b.WriteByte('!')
	}
	b.WriteString(d.Name)
	if d.Tag != "" {
		b.WriteByte('@')
		b.WriteString(d.Tag)
	}
	b.WriteString(d.Op.String())
	b.WriteString(d.Version)
	return b.String()
}

func formatDeps(deps []Dep) string {
	words := make([]string, len(deps))
	for i, d := range deps {
		words[i] = d.String()
	}
	return strings.Join(words, " ")
}

// accepts reports whether a provider with the given version satisfies d. The version is empty for a
// provider without one, which no versioned dependency accepts.
func (d Dep) accepts(p *Package, version string) bool {
	var match bool
	switch {
	case d.Op == opChecksum:
		match = p.Checksum == Checksum(d.Version)
	case d.Op == OpNone:
		match = true
	case version == "":
		match = false
	default:
		match = MatchVersion(version, d.Op, d.Version)
	}
	return match != d.Conflict
}
