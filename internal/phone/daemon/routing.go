package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	names "github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// keptRouting is the way of routing of a version whose recipe names none: that which was recorded
// or, before the first record, that of the version in the other slot, whose recipe, or earlier
// release of sov, named it.
func keptRouting(root phonepath.Root, vm phonepath.VM, slot string) vmspec.Routing {
	if text, err := os.ReadFile(vm.Routing()); err == nil {
		if kept := vmspec.Routing(strings.TrimSpace(string(text))); kept.Valid() {
			return kept
		}
	}
	text, err := readTrusted(string(root), filepath.Join(vm.Slot(slots.Other(slot)), names.SpecFile), installed.MaxText)
	if err != nil {
		return vmspec.Auto
	}
	if other, err := vmspec.Decode(text); err == nil && !other.Network.RoutingUnset {
		return other.Network.Routing
	}
	return vmspec.Auto
}

// recordRouting records the way of routing that is kept, for the time when the other slot holds
// another version; a recipe that names a way ends that.
func recordRouting(vm phonepath.VM, n vmspec.Network) error {
	if n.RoutingUnset && n.Routing != vmspec.Auto {
		return durable.WriteFile(vm.Routing(), []byte(string(n.Routing)+"\n"), 0o644)
	}
	if n.RoutingUnset {
		return nil
	}
	if err := os.Remove(vm.Routing()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
