package network

import (
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/finding"
)

// A chain is an iptables chain with the jumps to it from a built-in chain. Its rules are not part
// of the resource, see filledChain.
type chain struct {
	Name  string `json:"chain"`
	From  string `json:"from"` // the built-in chain that jumps to it
	Table string `json:"ip_table"`
}

func (c chain) String() string { return fmt.Sprintf("chain %s of table %s", c.Name, c.Table) }

func (c chain) kind() string { return "chain" }

func (c chain) valid() bool {
	return isOurChain(c.Name) && slices.Contains(tables, c.Table) && isBuiltIn(c.From)
}

// A chain with sov's name belongs to sov.
func (c chain) foreign() bool { return false }

func (c chain) exists(h *Host) (bool, error) { return h.tables.has(c.Table, c.Name) }

// make does nothing: fillChains creates the chain with its rules in one transaction.
func (c chain) make(*Host) error { return nil }

func (c chain) undo(h *Host, _ string) error {
	return ignoreAbsent(h.tables.drop(c.Table, c.From, c.Name))
}

func (c chain) missing() finding.Finding {
	return broken(LayerForwarding, "the "+c.String()+" is missing", "Android's netd or a firewall app rebuilt the table")
}
