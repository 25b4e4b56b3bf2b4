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

// A NetworkMode is what a machine reaches beyond the connections that are forwarded to it.
type NetworkMode string

const (
	// Restricted machines reach nothing.
	Restricted NetworkMode = "restricted"
	// ByPasst machines reach the internet, and what network.egress of the recipe names.
	ByPasst NetworkMode = "passt"
	// ByQEMU machines reach whatever this computer reaches, its loopback address included.
	ByQEMU NetworkMode = "qemu"
)

// modeOf is what options mean.
func modeOf(o Options) NetworkMode {
	switch {
	case !o.Egress:
		return Restricted
	case o.Passt == "":
		return ByQEMU
	}
	return ByPasst
}

// String says what the machine reaches.
func (m NetworkMode) String() string {
	switch m {
	case ByPasst:
		return "the internet, by passt"
	case ByQEMU:
		return "everything that this computer reaches, its own loopback services included"
	}
	return "nothing beyond this computer"
}

// Network returns what the machine reaches.
func (vm *VM) Network() NetworkMode { return vm.network }

// startEgress starts passt for a machine and connects its card.
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

// lostBound is how long a machine may take to shut down that has lost its network.
const lostBound = 2 * time.Minute

// watchEgress shuts a machine down whose network ends before it does: no client would reach it any
// more.
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
