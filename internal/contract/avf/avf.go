// Package avf decides whether a phone with Android's virtualization framework (AVF) can run a
// machine, from its hypervisor, its properties, and the flags of its crosvm. The computer checks
// before it sends a machine, the phone before it starts one.
package avf

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Hypervisor is a hypervisor that crosvm supports, by its name for --hypervisor.
type Hypervisor string

// Hypervisors.
const (
	KVM       Hypervisor = "kvm"       // pKVM on phones
	GenieZone Hypervisor = "geniezone" // MediaTek's
	Gunyah    Hypervisor = "gunyah"    // Qualcomm's
)

// hypervisors in crosvm's order of detection (src/crosvm/sys/linux.rs, get_default_hypervisor).
var hypervisors = []struct {
	Hypervisor
	device, title string
}{{KVM, "kvm", "KVM"}, {GenieZone, "gzvm", "GenieZone"}, {Gunyah, "gunyah", "Gunyah"}}

// Hypervisors returns all hypervisors, in crosvm's order of detection.
func Hypervisors() []Hypervisor {
	var out []Hypervisor
	for _, h := range hypervisors {
		out = append(out, h.Hypervisor)
	}
	return out
}

// Device returns the name of the hypervisor's device in /dev, or "" if it is unknown.
func (h Hypervisor) Device() string {
	for _, known := range hypervisors {
		if known.Hypervisor == h {
			return known.device
		}
	}
	return ""
}

// Title returns the hypervisor's name for messages.
func (h Hypervisor) Title() string {
	for _, known := range hypervisors {
		if known.Hypervisor == h {
			return known.title
		}
	}
	return string(h)
}

// A Protection is the protection of a guest's memory from the phone's system.
type Protection string

// Protections.
const (
	Unprotected     Protection = "none"
	Protected       Protection = "protected"                  // started by the phone's firmware for protected machines (pvmfw)
	WithoutFirmware Protection = "protected-without-firmware" // the kernel is started directly
)

// Usual returns the default protection: Gunyah refuses unprotected machines on most phones.
func (h Hypervisor) Usual() Protection {
	if h == Gunyah {
		return WithoutFirmware
	}
	return Unprotected
}

// Options are a machine's options for its hypervisor. The zero value means the phone's defaults.
type Options struct {
	Hypervisor Hypervisor `json:"hypervisor,omitempty"`  // empty: the first that the phone has
	Protection Protection `json:"protection,omitempty"`  // empty: the hypervisor's usual one
	SwiotlbMiB int        `json:"swiotlb_mib,omitempty"` // memory for I/O of a protected guest; 0: crosvm's default, 64
	Balloon    *bool      `json:"balloon,omitempty"`     // the guest returns unused memory; nil: unless it is protected
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

// Over returns the options with missing values from others.
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

// On returns the resolved options for a phone's hypervisor.
func (o Options) On(h Hypervisor) Options {
	if o.Hypervisor == "" {
		o.Hypervisor = h
	}
	if o.Protection == "" {
		o.Protection = o.Hypervisor.Usual()
	}
	if o.Balloon == nil { // a protected guest cannot return memory
		o.Balloon = new(o.Protection == Unprotected)
	}
	return o
}

// needs lists groups of flags, of which crosvm must support one each, and their purpose.
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

// Lacks returns what a crosvm with these flags lacks for a machine with resolved options, or "".
func Lacks(flags map[string]bool, o Options) string {
	var lacks []string
	for _, n := range needs {
		if !slices.ContainsFunc(n.any, func(flag string) bool { return flags[flag] }) {
			lacks = append(lacks, fmt.Sprintf("%s (%s)", n.what, strings.Join(n.any, ", ")))
		}
	}
	if o.Hypervisor != "" && o.Hypervisor != KVM && !flags["--hypervisor"] { // without the flag, crosvm supports only KVM
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
