// Package phonepath defines the paths on the phone for the runner, the module and `sov push`:
//
//	/data/sovereign/
//	  bin/sov-runner
//	  settings.json            the runner's own settings; may be absent
//	  network.json             what was changed in the phone's network, see package network
//	  trust/keys.json          public keys of which versions must be signed with one, see package trust; may be absent
//	  trust/serials.json       the highest serial of each machine's signed versions, see package serials
//	  secrets/NAME/SECRET      mode 0700 and 0600: one secret a file, its bytes as they are
//	  vms/NAME/
//	    slots/{a,b}/           an artifact each: vm.json, rootfs.img, kernel, manifest.json, and its signature if there is one;
//	                           see package slots
//	    slots/incoming/        what has come of the next one
//	    current                symbolic link to one of the slots
//	    data.img               the data disk
//	    volumes/VOLUME.img     the volumes of its recipe
//	    address                the addresses that the phone has chosen, where the recipe gives none; see package address
//	    run/                   mode 0700: state, sockets and logs of the machine that runs
package phonepath

import (
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// Default is where everything is on a phone.
const Default Root = "/data/sovereign"

// RootManagers are the root managers with their busybox for the scripts of modules.
var RootManagers = []struct{ Name, Busybox string }{
	{"Magisk", "/data/adb/magisk/busybox"},
	{"KernelSU", "/data/adb/ksu/bin/busybox"}, // also of its forks
	{"APatch", "/data/adb/ap/bin/busybox"},
}

// A Root is the top folder.
type Root string

func (r Root) path(parts ...string) string {
	return filepath.Join(append([]string{string(r)}, parts...)...)
}

// Runner is the program on the phone.
func (r Root) Runner() string { return r.path("bin", artifact.RunnerFile) }

// Settings is the runner's settings file.
func (r Root) Settings() string { return r.path("settings.json") }

// Ledger is the ledger of package network.
func (r Root) Ledger() string { return r.path("network.json") }

// Trust is the folder with the trusted keys and serials. It stays when machines are removed.
func (r Root) Trust() string { return r.path("trust") }

// TrustedKeys is the file with the public keys that the phone trusts.
func (r Root) TrustedKeys() string { return r.path("trust", "keys.json") }

// Serials is the file with the highest serials of signed versions.
func (r Root) Serials() string { return r.path("trust", "serials.json") }

// VM returns the paths of a machine. The name may be untrusted: an invalid name is an error.
func (r Root) VM(name string) (VM, error) {
	if err := artifact.CheckName(name); err != nil {
		return VM{}, err
	}
	return VM{root: r, Name: name}, nil
}

// VMs is the folder with a folder for each machine.
func (r Root) VMs() string { return r.path("vms") }

// A VM has the paths of one machine.
type VM struct {
	root Root
	Name string
}

// Root is the folder that holds everything.
func (v VM) Root() Root { return v.root }

// Signed is the signature of the version in a slot; it may not exist.
func (v VM) Signed(s string) string { return filepath.Join(v.Slot(s), artifact.SignedFile) }

// Dir is the machine's folder.
func (v VM) Dir() string { return v.root.path("vms", v.Name) }

// Slot is one of the two folders for an artifact; s is "a" or "b".
func (v VM) Slot(s string) string { return filepath.Join(v.Dir(), "slots", s) }

// Current is the symbolic link to the slot that is started; its target is SlotLink of that slot.
func (v VM) Current() string { return filepath.Join(v.Dir(), "current") }

// Slots is the folder of the two slots.
func (v VM) Slots() string { return filepath.Join(v.Dir(), "slots") }

// Incoming is the folder in which an artifact is assembled before it becomes a slot.
func (v VM) Incoming() string { return filepath.Join(v.Slots(), "incoming") }

// SlotLink is the target of Current, relative to Dir.
func SlotLink(s string) string { return filepath.Join("slots", s) }

// Data is the data disk.
func (v VM) Data() string { return filepath.Join(v.Dir(), "data.img") }

// Volumes is the folder of the machine's volumes.
func (v VM) Volumes() string { return filepath.Join(v.Dir(), "volumes") }

// Volume is the disk of a volume.
func (v VM) Volume(name string) string { return filepath.Join(v.Volumes(), name+volumeSuffix) }

// VolumeName returns the name of the volume of a file in Volumes, and whether the file is a
// volume's disk.
func VolumeName(file string) (name string, ok bool) {
	name, ok = strings.CutSuffix(file, volumeSuffix)
	return name, ok && guestspec.ValidVolumeName(name)
}

const volumeSuffix = ".img"

// Backup is the record of the last backup that a computer saved.
func (v VM) Backup() string { return filepath.Join(v.Dir(), "backup.json") }

// Node is the record of the machine's last node on a tailnet.
func (v VM) Node() string { return filepath.Join(v.Dir(), "node.json") }

// Routing is the record of the machine's routing mode, for recipes that do not set one.
func (v VM) Routing() string { return filepath.Join(v.Dir(), "routing") }

// Address is the record of the addresses that the phone has chosen, for recipes that do not set
// them.
func (v VM) Address() string { return filepath.Join(v.Dir(), "address") }

// Addresses is the file that is locked while addresses are chosen.
func (r Root) Addresses() string { return r.path("address.lock") }

// Secrets is the folder with the machine's secrets.
func (v VM) Secrets() string { return v.root.path("secrets", v.Name) }

// Run is the folder of the machine that runs.
func (v VM) Run() string { return filepath.Join(v.Dir(), "run") }

func (v VM) run(name string) string { return filepath.Join(v.Run(), name) }

// State is the file with the machine's state, see package runnerapi.
func (v VM) State() string { return v.run("state.json") }

// Lock is the file that the machine's daemon locks while it runs (fcntl(2), F_SETLK). It is empty:
// the kernel returns the holder.
func (v VM) Lock() string { return v.run("daemon.lock") }

// Machine is the folder of crosvm's user.
func (v VM) Machine() string { return v.run("machine") }

// Socket is crosvm's control socket.
func (v VM) Socket() string { return filepath.Join(v.Machine(), "crosvm.sock") }

// OldSocket is the control socket of earlier versions.
func (v VM) OldSocket() string { return v.run("crosvm.sock") }

// Requests is the pipe for requests to the guest without the network.
func (v VM) Requests() string { return v.run("requests") }

// ConfigDisk is the config disk, which exists while the machine starts.
func (v VM) ConfigDisk() string { return v.run("config.img") }

// Keys is the socket through which the daemon gets the key of an encrypted data disk that is not
// stored on the phone.
func (v VM) Keys() string { return v.run("keys.sock") }

// Token is the file with the token of the guest's endpoint for this boot.
func (v VM) Token() string { return v.run("token") }

// Console is the guest's console log; older parts have the suffixes .1, .2, ….
func (v VM) Console() string { return v.run("console.log") }

// Early is the output of the guest's kernel at this start before hvc0 exists, see Console.
func (v VM) Early() string { return v.run("early.log") }

// Log is the runner's own log, rotated in the same way.
func (v VM) Log() string { return v.run("runner.log") }
