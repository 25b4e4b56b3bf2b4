// Package group reads group files: machines of one phone that are built, installed and started
// together, in order, and that connect to each other by name.
package group

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/strictyaml"
	"github.com/sovereign-sql/sov/stages"
)

// maxFile bounds a group file, in bytes.
const maxFile = 64 << 10

// A Group is a group file.
type Group struct {
	Name     string    `yaml:"name"` // absent: the file's name without its extension
	Machines []Machine `yaml:"machines"`
	File     string    `yaml:"-"`
}

// A Machine is a machine of a group.
type Machine struct {
	Recipe   string   `yaml:"recipe"`   // as `sov build` takes it; a path is relative to the group file
	Profiles []string `yaml:"profiles"` // as its --profile
	Set      []string `yaml:"set"`      // as its --set
	After    []string `yaml:"after"`    // machines that must be ready first
	Name     string   `yaml:"-"`        // the recipe's
	Backup   bool     `yaml:"-"`        // it has data to back up
}

// machinesKey matches the key that distinguishes a group file from a recipe.
var machinesKey = regexp.MustCompile(`(?m)^machines:`)

// Load reads a group file and sorts its machines in the order in which they start: each after those
// in its After, else in the order of the file. It returns nil if the argument is not a group file,
// but for example a recipe or a machine.
func Load(argument string) (*Group, error) {
	if ext := filepath.Ext(argument); ext != ".yaml" && ext != ".yml" {
		return nil, nil
	}
	text, err := bound.ReadFile(argument, maxFile)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, bound.ErrTooLarge) || err == nil && !machinesKey.Match(text) {
		return nil, nil // the recipe's reader reports the error
	}
	if err != nil {
		return nil, err
	}
	g := &Group{File: argument}
	doc, err := strictyaml.Decode(argument, text, g)
	if err != nil {
		return nil, err
	}
	if g.Name == "" {
		g.Name = strings.TrimSuffix(filepath.Base(argument), filepath.Ext(argument))
	}
	if err := artifact.CheckName(g.Name); err != nil {
		doc.Faultf("name", "the group: %v", err)
	}
	recipes := map[string]*recipe.Recipe{}
	for i := range g.Machines {
		m := &g.Machines[i]
		at := strictyaml.Index("machines", i)
		if m.Recipe == "" {
			doc.Faultf(at, "names no recipe")
			continue
		}
		if local := filepath.Join(filepath.Dir(argument), m.Recipe); isFile(m.Recipe) && !filepath.IsAbs(m.Recipe) {
			m.Recipe = "." + string(os.PathSeparator) + local
			if filepath.IsAbs(local) {
				m.Recipe = local
			}
		}
		r, _, err := stages.LoadRecipe(m.Recipe, recipe.Variant{Profiles: m.Profiles, Set: m.Set})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", argument, err)
		}
		m.Name, recipes[r.Name] = r.Name, r
		m.Backup = r.Postgres.Enabled || slices.ContainsFunc(r.Services, func(s recipe.Service) bool { return s.Backup != nil })
		if slices.ContainsFunc(g.Machines[:i], func(o Machine) bool { return o.Name == m.Name }) {
			doc.Faultf(at, "a machine %s is listed twice", m.Name)
		}
	}
	for i, m := range g.Machines {
		for j, after := range m.After {
			if !slices.ContainsFunc(g.Machines, func(o Machine) bool { return o.Name == after }) {
				doc.Faultf(strictyaml.Index(strictyaml.Join(strictyaml.Index("machines", i), "after"), j), "%q is not a machine of this group", after)
			}
		}
	}
	for i, m := range g.Machines {
		for _, fault := range shared(recipes, m.Name) {
			doc.Faultf(strictyaml.Index("machines", i), "%v", fault)
		}
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	if g.Machines, err = ordered(g.Machines); err != nil {
		return nil, fmt.Errorf("%s: %w", argument, err)
	}
	return g, nil
}

// shared checks the secrets that a machine takes from others of the group.
func shared(recipes map[string]*recipe.Recipe, name string) (faults []error) {
	r := recipes[name]
	if r == nil {
		return nil
	}
	for _, s := range r.Declared {
		from, secret, _ := strings.Cut(s.From, "/")
		if other := recipes[from]; other != nil {
			if err := other.CheckSecret(secret); err != nil {
				faults = append(faults, fmt.Errorf("%s: secrets: %s is %s: %w", name, s.Name, s.From, err))
			}
		}
	}
	return faults
}

// isFile reports whether recipe is a path, see stages.LoadRecipe.
func isFile(recipe string) bool {
	ext := filepath.Ext(recipe)
	return strings.ContainsRune(recipe, '/') || ext == ".yaml" || ext == ".yml"
}

// ordered sorts the machines topologically by After.
func ordered(machines []Machine) ([]Machine, error) {
	var out []Machine
	placed := map[string]bool{}
	for len(out) < len(machines) {
		next := slices.IndexFunc(machines, func(m Machine) bool {
			return !placed[m.Name] && !slices.ContainsFunc(m.After, func(after string) bool { return !placed[after] })
		})
		if next < 0 {
			return nil, errors.New("machines: they wait for each other in a circle: remove one of their after")
		}
		placed[machines[next].Name] = true
		out = append(out, machines[next])
	}
	return out, nil
}

// Names returns the machines' names, in their order.
func (g *Group) Names() []string {
	var out []string
	for _, m := range g.Machines {
		out = append(out, m.Name)
	}
	return out
}
