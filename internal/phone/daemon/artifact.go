package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	names "github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/address"
	"github.com/sovereign-sql/sov/internal/phone/network"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// An artifact is the version in a slot.
type artifact struct {
	slot    string // "a" or "b"
	dir     string
	version string
	spec    *vmspec.Spec
	files   *installed.Artifact
}

// loadArtifact reads the slot that `current` points to.
func loadArtifact(root phonepath.Root, s Settings, vm phonepath.VM) (*artifact, error) {
	slot, err := slots.Current(vm)
	if err != nil {
		return nil, err
	}
	return loadSlot(root, s, vm, slot)
}

// loadOther reads the slot that `current` does not point to.
func loadOther(root phonepath.Root, s Settings, vm phonepath.VM) (*artifact, error) {
	slot, err := slots.Current(vm)
	if err != nil {
		return nil, err
	}
	return loadSlot(root, s, vm, slots.Other(slot))
}

func loadSlot(root phonepath.Root, s Settings, vm phonepath.VM, slot string) (*artifact, error) {
	a := &artifact{slot: slot, dir: vm.Slot(slot)}
	var texts [2][]byte
	for i, name := range []string{names.ManifestFile, names.SpecFile} {
		var err error
		if texts[i], err = readTrusted(string(root), filepath.Join(a.dir, name), installed.MaxText); err != nil {
			return nil, absent(vm, slot, err)
		}
	}
	var err error
	if a.files, err = installed.Parse(texts[0], texts[1]); err != nil {
		return nil, damage(vm.Name, slot, err)
	}
	a.spec, a.version = a.files.Spec, a.files.Manifest.Version
	if a.spec.Name != vm.Name {
		return nil, fmt.Errorf("%s: slot %s holds the machine %s", vm.Name, slot, a.spec.Name)
	}
	address.Apply(vm, &a.spec.Network)
	if a.spec.Network.RoutingUnset {
		a.spec.Network.Routing = keptRouting(root, vm, slot)
	}
	if arch := s.arch(); a.spec.Arch != arch {
		return nil, fmt.Errorf("%s: slot %s is for %s, this phone is %s: build it with --arch %s", vm.Name, slot, a.spec.Arch, arch, arch)
	}
	for _, file := range append([]string{a.spec.Kernel}, rootfsFiles(a.spec)...) {
		if err := checkTrusted(string(root), filepath.Join(a.dir, file)); err != nil {
			return nil, absent(vm, slot, err)
		}
	}
	return a, nil
}

// absent returns the error for a file that cannot be used; a missing file counts as damage.
func absent(vm phonepath.VM, slot string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return damage(vm.Name, slot, err)
	}
	return fmt.Errorf("%s: slot %s: %w", vm.Name, slot, err)
}

// A damageError says that a slot differs from what was installed.
type damageError struct{ error }

func (e damageError) Unwrap() error { return e.error }

func damage(name, slot string, what error) error {
	return damageError{fmt.Errorf("%s: slot %s: %w: install it again with `sov push %[1]s`", name, slot, what)}
}

// check verifies the files of a start: the kernel against the manifest, byte for byte, and the
// manifest against its signature if it has one. vm.json was compared with the manifest when it was
// read. The root file system is not read here: the guest's kernel verifies each block with the root
// hash in vm.json.
func (a *artifact) check(ctx context.Context) error {
	for _, f := range a.files.Files {
		info, err := os.Lstat(filepath.Join(a.dir, f.Name))
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() != f.Size {
			return damage(a.spec.Name, a.slot, fmt.Errorf("%s is not a file of %d bytes", f.Name, f.Size))
		}
	}
	kernel, _ := a.files.Manifest.File(a.spec.Kernel)
	if err := a.compare(ctx, kernel); err != nil {
		return err
	}
	text, err := installed.ReadFile(filepath.Join(a.dir, names.SignedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var signed *provenance.Signed
		if signed, err = provenance.OpenSigned(text); err == nil && !signed.IsOf(a.spec.Name, a.files.Digest) {
			err = errors.New("it is about another version")
		}
	}
	if err != nil {
		return damage(a.spec.Name, a.slot, fmt.Errorf("its signature is not valid: %w", err))
	}
	return nil
}

// compare compares files with the manifest, byte for byte.
func (a *artifact) compare(ctx context.Context, files ...manifest.File) error {
	what, err := a.files.Damage(ctx, a.dir, files...)
	if err != nil || what == "" {
		return err
	}
	return damage(a.spec.Name, a.slot, errors.New(what))
}

func rootfsFiles(spec *vmspec.Spec) []string {
	var out []string
	for _, d := range spec.Disks {
		if d.Role == vmspec.RoleRootfs {
			out = append(out, d.File)
		}
	}
	return out
}

// network returns the artifact's configuration of the phone's network.
func (a *artifact) network(root phonepath.Root, s Settings, log func(string)) network.VM {
	n := a.spec.Network
	vm := network.VM{
		Name: a.spec.Name, TAP: n.TAP, Host: n.Host, Guest: n.Guest, MTU: n.MTU, Routing: network.Routing(n.Routing), Uplink: s.Uplink,
		DNS:    n.DNS,
		Egress: network.Egress{LAN: slices.Contains(n.Egress, vmspec.EgressLAN), Phone: slices.Contains(n.Egress, vmspec.EgressPhone)},
	}
	for _, port := range n.Phone {
		vm.Phone = append(vm.Phone, uint16(port))
	}
	vm.Publish = published(a.spec)
	for _, p := range peers(root, s, a.spec, log) {
		vm.Peers = append(vm.Peers, network.Peer{TAP: p.Network.TAP, Guest: p.Network.Guest, Publish: published(p)})
	}
	return vm
}

// published returns the ports that are reachable from other hosts.
func published(spec *vmspec.Spec) []network.Port {
	var out []network.Port
	for _, p := range spec.Ports {
		out = append(out, network.Port{Port: uint16(p.Port), UDP: p.UDP(), Host: uint16(p.HostPort), Forward: p.Forward})
	}
	return out
}
