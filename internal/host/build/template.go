package build

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// BuiltIn returns the names of the built-in recipes.
func BuiltIn() []string { return assets.Recipes() }

// A Template has the values of a new recipe; empty values stay as in the built-in recipe.
type Template struct {
	Name      string
	From      string   // built-in recipe; empty: sql
	Memory    string   // such as "2GiB"
	Data      string   // size of the data disk
	Packages  []string // in addition
	Tailscale bool
}

// Recipe returns the text of a recipe: that of the built-in one, comments included, with what the
// template changes. It returns an error for an invalid value.
func (t Template) Recipe() ([]byte, error) {
	from := cmp.Or(t.From, "sql")
	text, err := assets.Recipe(from)
	if err != nil {
		return nil, err
	}
	out := string(text)
	change := func(old, new string) {
		if strings.Count(out, old) != 1 {
			err = fmt.Errorf("the built-in recipe %s has no single %q", from, old) // a bug in this program
		}
		out = strings.Replace(out, old, new, 1)
	}
	change("# "+from+": ", "# "+t.Name+": ")
	change("\nname: "+from+"\n", "\nname: "+t.Name+"\n")
	out = strings.ReplaceAll(out, "  hostname: sovereign-"+from+"\n", "  hostname: sovereign-"+t.Name+"\n")
	if t.Memory != "" {
		change("  memory: 1GiB\n", "  memory: "+t.Memory+"\n")
	}
	if t.Data != "" {
		change("  data: 8GiB\n", "  data: "+t.Data+"\n")
	}
	if !t.Tailscale {
		change("tailscale:\n  enabled: true\n", "tailscale:\n  enabled: false\n")
	}
	for _, p := range t.Packages {
		change("    - tzdata\n", "    - tzdata\n    - "+p+"\n")
	}
	if err != nil {
		return nil, err
	}
	_, err = recipe.Parse(t.Name+".yaml", []byte(out))
	return []byte(out), err
}
