// Package arch is the table of the supported architectures with their names in other programs and
// formats. sov itself uses Go's names: in flags, file names, locks, manifests and vm.json.
package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Go's names of the architectures. OCI image indexes use the same ones.
const (
	ARM64 = "arm64"
	AMD64 = "amd64"
)

// An Arch is one architecture under each of its names.
type Arch struct {
	Go string // GOARCH, an OCI platform's architecture
	// Uname are the outputs of `uname -m` on a computer whose kernel runs programs for this
	// architecture.
	Uname     []string
	Alpine    string // a folder of a package repository, and the arch field of its packages
	Debian    string // dpkg --print-architecture
	Triplet   string // GNU's, with which the names of cross compilers begin
	Kernel    string // ARCH= of the kernel's make
	QEMU      string // the end of qemu-system-NAME
	Installer string // $ARCH in the installers of Magisk, KernelSU and APatch
}

// all holds the architectures in the order in which they are listed.
//
// armv8l is what an arm64 kernel reports to a 32-bit process (COMPAT_UTS_MACHINE in
// arch/arm64/include/asm/compat.h), such as the shell of a phone with 32-bit user space. Such a
// kernel runs 64-bit programs. A 32-bit kernel reports armv7l, also on a 64-bit processor, and runs
// none. macOS reports arm64.
var all = []Arch{
	{Go: ARM64, Uname: []string{"aarch64", "armv8l", "arm64"}, Alpine: "aarch64", Debian: "arm64", Triplet: "aarch64-linux-gnu",
		Kernel: "arm64", QEMU: "aarch64", Installer: "arm64"},
	{Go: AMD64, Uname: []string{"x86_64"}, Alpine: "x86_64", Debian: "amd64", Triplet: "x86_64-linux-gnu",
		Kernel: "x86_64", QEMU: "x86_64", Installer: "x64"},
}

// All returns the architectures.
func All() []Arch { return slices.Clone(all) }

// Names returns Go's names of all architectures.
func Names() []string {
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = a.Go
	}
	return names
}

// Allowed returns the valid names for error messages: "arm64 or amd64".
func Allowed() string { return strings.Join(Names(), " or ") }

// Valid reports whether name is Go's name of an architecture in the table.
func Valid(name string) bool { return slices.Contains(Names(), name) }

// Get returns the architecture with Go's name.
func Get(name string) (Arch, error) {
	i := slices.IndexFunc(all, func(a Arch) bool { return a.Go == name })
	if i < 0 {
		return Arch{}, fmt.Errorf("architecture %.40q: must be %s", name, Allowed())
	}
	return all[i], nil
}

// OfUname returns the architecture of a computer where `uname -m` prints machine.
func OfUname(machine string) (Arch, error) {
	i := slices.IndexFunc(all, func(a Arch) bool { return slices.Contains(a.Uname, machine) })
	if i < 0 {
		return Arch{}, fmt.Errorf("processor %.40q: must be %s", machine, Allowed())
	}
	return all[i], nil
}
