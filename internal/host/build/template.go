package build

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// A Template is what a new recipe has of its own; what is empty stays as in the built-in recipe sql.
type Template struct {
	Name      string
	Memory    string   // such as "2GiB"
	Data      string   // size of the data disk
	Packages  []string // in addition
	Tailscale bool
}

// Recipe returns the text of a recipe: that of sql, comments included, with what the template changes. The error is that of
// a value that no recipe may have.
func (t Template) Recipe() ([]byte, error) {
	text, err := assets.Recipe("sql")
	if err != nil {
		return nil, err
	}
	out := string(text)
	change := func(old, new string) {
		if strings.Count(out, old) != 1 {
			err = fmt.Errorf("the built-in recipe has no single %q", old) // a mistake in this program
		}
		out = strings.Replace(out, old, new, 1)
	}
	change("# sql: PostgreSQL in a small Alpine machine, for a phone or for this computer.\n", "# "+t.Name+": PostgreSQL in a small Alpine machine, for a phone or for this computer.\n")
	change("\nname: sql\n", "\nname: "+t.Name+"\n")
	// Two machines of one phone need an interface and addresses each.
	digest := sha256.Sum256([]byte(t.Name))
	change("  tap: vm_sql\n", "  tap: "+tapName(t.Name, digest)+"\n")
	subnet := 101 + int(digest[0])%150 // not that of sql
	change("  host: 192.168.100.1/24\n", fmt.Sprintf("  host: 192.168.%d.1/24\n", subnet))
	change("  guest: 192.168.100.2\n", fmt.Sprintf("  guest: 192.168.%d.2\n", subnet))
	out = strings.ReplaceAll(out, "  hostname: sovereign-sql\n", "  hostname: sovereign-"+t.Name+"\n")
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

// tapName returns the name of a machine's TAP interface, which may have 15 bytes (IFNAMSIZ of linux/if.h, less its NUL).
func tapName(machine string, digest [sha256.Size]byte) string {
	const prefix, room = "vm_", 12
	if len(machine) > room {
		machine = fmt.Sprintf("%s%x", machine[:room-4], digest[:2])
	}
	return prefix + machine
}
