package daemon

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// TestKeptRouting: a machine whose recipe sets no routing keeps the routing of its previous
// versions, until a recipe sets one.
func TestKeptRouting(t *testing.T) {
	root, vm := machineIn(t)
	install := func(slot string, routing vmspec.Routing, unset bool) {
		t.Helper()
		a, err := loadSlot(root, Settings{}, vm, "a")
		if err != nil {
			t.Fatal(err)
		}
		a.spec.Network.Routing, a.spec.Network.RoutingUnset = routing, unset
		fill(t, vm, slot, a.spec)
	}
	start := func(slot string) vmspec.Routing {
		t.Helper()
		a, err := loadSlot(root, Settings{}, vm, slot)
		if err != nil {
			t.Fatal(err)
		}
		if err := recordRouting(vm, a.spec.Network); err != nil {
			t.Fatal(err)
		}
		return a.spec.Network.Routing
	}
	install("a", vmspec.Auto, true)
	if got := start("a"); got != vmspec.Auto {
		t.Errorf("a new machine: %s", got)
	}
	install("a", vmspec.MainFirst, false) // as earlier releases wrote it
	install("b", vmspec.Auto, true)
	if got := start("b"); got != vmspec.MainFirst {
		t.Errorf("after an update of an earlier release: %s", got)
	}
	install("a", vmspec.Auto, true)
	if got := start("a"); got != vmspec.MainFirst {
		t.Errorf("after another update: %s", got)
	}
	install("b", vmspec.Scoped, false)
	if got := start("b"); got != vmspec.Scoped {
		t.Errorf("its recipe names one: %s", got)
	}
	install("a", vmspec.Auto, true)
	install("b", vmspec.Auto, true)
	if got := start("a"); got != vmspec.Auto {
		t.Errorf("neither names one: %s", got)
	}
}
