// Package avf is what a phone says of Android's virtualization framework (AVF), and what follows
// from it for a machine: which hypervisor it has, what that runs, and what its build of crosvm
// knows. The computer asks before it sends anything, the phone before it starts a machine.
package avf

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Hypervisor is one of those that crosvm knows, by its name for --hypervisor.
type Hypervisor string

// Hypervisors.
const (
	KVM       Hypervisor = "kvm"       // pKVM on phones
	GenieZone Hypervisor = "geniezone" // MediaTek's
	Gunyah    Hypervisor = "gunyah"    // Qualcomm's
)

// hypervisors in the order in which crosvm looks for one (src/crosvm/sys/linux.rs,
// get_default_hypervisor).
var hypervisors = []struct {
	Hypervisor
	device, title string
}{{KVM, "kvm", "KVM"}, {GenieZone, "gzvm", "GenieZone"}, {Gunyah, "gunyah", "Gunyah"}}

// Hypervisors are all of them, in the order in which crosvm looks for one.
func Hypervisors() []Hypervisor {
	var out []Hypervisor
	for _, h := range hypervisors {
		out = append(out, h.Hypervisor)
	}
	return out
}

// Device is the hypervisor's device, by its name in /dev; empty for one that is unknown.
func (h Hypervisor) Device() string {
	for _, known := range hypervisors {
		if known.Hypervisor == h {
			return known.device
		}
	}
	return ""
}

// Title is the hypervisor's name for people.
func (h Hypervisor) Title() string {
	for _, known := range hypervisors {
		if known.Hypervisor == h {
			return known.title
		}
	}
	return string(h)
}

// A Protection is what keeps the phone's own system out of a guest's memory.
type Protection string

// Protections.
const (
	Unprotected     Protection = "none"
	Protected       Protection = "protected"                  // behind the phone's own firmware for protected machines (pvmfw)
	WithoutFirmware Protection = "protected-without-firmware" // the kernel is started as it is
)

// Usual is the protection of a machine that says nothing of it: Gunyah refuses unprotected machines
// on most phones.
func (h Hypervisor) Usual() Protection {
	if h == Gunyah {
		return WithoutFirmware
	}
	return Unprotected
}

// Options are what a machine says of its hypervisor. The zero value leaves all to the phone.
type Options struct {
	Hypervisor Hypervisor `json:"hypervisor,omitempty"`  // empty: the first that the phone has
	Protection Protection `json:"protection,omitempty"`  // empty: the hypervisor's usual one
	SwiotlbMiB int        `json:"swiotlb_mib,omitempty"` // memory through which a protected guest and its devices speak; 0: crosvm's choice, 64
	Balloon    *bool      `json:"balloon,omitempty"`     // the guest gives unused memory back; nil: where it is not protected
	HugePages  bool       `json:"huge_pages,omitempty"`  // the guest's memory is backed by huge pages where the kernel has them
}

// maxSwiotlb bounds SwiotlbMiB.
const maxSwiotlb = 4096

// Validate reports what is wrong with options.
func (o Options) Validate() error {
	switch {
	case o.Hypervisor != "" && o.Hypervisor.Device() == "":
		return fmt.Errorf("hypervisor %q: must be kvm, geniezone or gunyah", o.Hypervisor)
	case o.Protection != "" && !slices.Contains([]Protection{Unprotected, Protected, WithoutFirmware}, o.Protection):
		return fmt.Errorf("protection %q: must be %s, %s or %s", o.Protection, Unprotected, Protected, WithoutFirmware)
	case o.SwiotlbMiB < 0 || o.SwiotlbMiB > maxSwiotlb:
		return fmt.Errorf("swiotlb_mib %d: must be between 0 and %d", o.SwiotlbMiB, maxSwiotlb)
	}
	return nil
}

// Over returns the options with what is missing taken from others.
func (o Options) Over(others Options) Options {
	if o.Hypervisor == "" {
		o.Hypervisor = others.Hypervisor
	}
	if o.Protection == "" {
		o.Protection = others.Protection
	}
	if o.SwiotlbMiB == 0 {
		o.SwiotlbMiB = others.SwiotlbMiB
	}
	if o.Balloon == nil {
		o.Balloon = others.Balloon
	}
	o.HugePages = o.HugePages || others.HugePages
	return o
}

// On returns the options with nothing left open, for a phone's hypervisor.
func (o Options) On(h Hypervisor) Options {
	if o.Hypervisor == "" {
		o.Hypervisor = h
	}
	if o.Protection == "" {
		o.Protection = o.Hypervisor.Usual()
	}
	if o.Balloon == nil { // memory that was lent to a protected guest cannot be given back
		o.Balloon = new(o.Protection == Unprotected)
	}
	return o
}

// needs are the flags of which a crosvm must know one each, and what they are for.
var needs = []struct {
	any  []string
	what string
}{
	{[]string{"--block", "--rwdisk"}, "disks"},
	{[]string{"--net", "--tap-fd"}, "a network card"},
	{[]string{"--serial"}, "consoles"},
	{[]string{"--socket"}, "a control socket"},
	{[]string{"--params"}, "kernel parameters"},
}

// flagLine is a line of help that begins with a flag. Android 13 writes ` -d, --disk =PATH`, later
// ones ` -b, --block parameters…`; descriptions that mention other flags are indented further.
var flagLine = regexp.MustCompile(`(?m)^ {1,8}(?:-\w, )?(--[a-z0-9][a-z0-9_-]*)`)

// ParseHelp returns the flags that the text of crosvm's `run --help` lists.
func ParseHelp(text string) map[string]bool {
	flags := map[string]bool{}
	for _, m := range flagLine.FindAllStringSubmatch(text, -1) {
		if m[1] != "--help" {
			flags[m[1]] = true
		}
	}
	return flags
}

// ProtectionFlag is crosvm's flag for a protection; empty for none.
func ProtectionFlag(p Protection) string {
	return map[Protection]string{Protected: "--protected-vm", WithoutFirmware: "--protected-vm-without-firmware"}[p]
}

// Lacks names what a crosvm with these flags cannot give a machine with options that leave nothing
// open; "" where nothing is missing.
func Lacks(flags map[string]bool, o Options) string {
	var lacks []string
	for _, n := range needs {
		if !slices.ContainsFunc(n.any, func(flag string) bool { return flags[flag] }) {
			lacks = append(lacks, fmt.Sprintf("%s (%s)", n.what, strings.Join(n.any, ", ")))
		}
	}
	if o.Hypervisor != "" && o.Hypervisor != KVM && !flags["--hypervisor"] { // what does not know the flag, knows KVM alone
		lacks = append(lacks, fmt.Sprintf("%s (--hypervisor)", o.Hypervisor.Title()))
	}
	if flag := ProtectionFlag(o.Protection); flag != "" && !flags[flag] {
		lacks = append(lacks, fmt.Sprintf("protection (%s)", flag))
	}
	if o.SwiotlbMiB > 0 && !flags["--swiotlb"] {
		lacks = append(lacks, "swiotlb (--swiotlb)")
	}
	return strings.Join(lacks, ", ")
}
