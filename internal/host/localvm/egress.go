package localvm

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/host/egress"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// A NetworkMode is what a machine can connect to.
type NetworkMode string

const (
	// Restricted machines reach nothing.
	Restricted NetworkMode = "restricted"
	// ByPasst machines reach the internet, and what network.egress of the recipe names.
	ByPasst NetworkMode = "passt"
	// ByQEMU machines reach whatever this computer reaches, its loopback address included.
	ByQEMU NetworkMode = "qemu"
)

// modeOf returns the mode that options select.
func modeOf(o Options) NetworkMode {
	switch {
	case !o.Egress:
		return Restricted
	case o.Passt == "":
		return ByQEMU
	}
	return ByPasst
}

// String describes what the machine can connect to.
func (m NetworkMode) String() string {
	switch m {
	case ByPasst:
		return "the internet, by passt"
	case ByQEMU:
		return "everything that this computer reaches, its own loopback services included"
	}
	return "nothing beyond this computer"
}

// Network returns what the machine can connect to.
func (vm *VM) Network() NetworkMode { return vm.network }

// startEgress starts passt for a machine and connects its network interface.
func startEgress(ctx context.Context, passt string, spec *vmspec.Spec, card *qemu.Network) (*egress.Network, error) {
	world, err := egress.Start(ctx, egress.Options{
		Program: passt, Guest: netip.PrefixFrom(card.Guest, card.Subnet.Bits()), Host: card.Host, DNS: card.DNS(), MTU: spec.Network.MTU,
		Forward: card.Forward,
		LAN:     slices.Contains(spec.Network.Egress, vmspec.EgressLAN), Self: slices.Contains(spec.Network.Egress, vmspec.EgressPhone),
	})
	if err != nil {
		return nil, fmt.Errorf("--egress: %w", err)
	}
	card.Stream, card.MAC = world.Card(), egress.HardwareAddress
	return world, nil
}

// lostBound is the time that a machine has to shut down after its network failed.
const lostBound = 2 * time.Minute

// watchEgress shuts the machine down if its network fails: clients could not reach it any more.
func (vm *VM) watchEgress() {
	select {
	case <-vm.Done():
		return
	case <-vm.egress.Lost():
	}
	err := fmt.Errorf("the machine has lost its network: %s: %w", egress.Program, vm.egress.Err())
	vm.lost.Store(&err)
	vm.notice("%v: it is shut down", err)
	ctx, cancel := context.WithTimeout(context.Background(), lostBound)
	defer cancel()
	if vm.machine.PowerButton(ctx) == nil {
		select {
		case <-vm.Done():
			return
		case <-ctx.Done():
		}
	}
	_ = vm.machine.Kill() // which fails where it has ended
}
