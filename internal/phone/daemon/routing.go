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

// keptRouting returns the routing mode of a version whose recipe does not set one: the recorded
// mode or, before the first record, that of the version in the other slot.
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

// recordRouting records the routing mode, which stays after the other slot gets a new version. A
// recipe that sets a mode removes the record.
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
