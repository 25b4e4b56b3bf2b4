package qemu

import (
	"fmt"
	"os"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
)

// firmware lists, by architecture, the Debian package and the usual paths of UEFI firmware for
// QEMU's boards, code and variables in one file.
var firmware = map[string]struct {
	packet string
	paths  []string
}{
	arch.AMD64: {"ovmf", []string{"/usr/share/ovmf/OVMF.fd", "/usr/share/OVMF/OVMF.fd"}},
	arch.ARM64: {"qemu-efi-aarch64", []string{"/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "/usr/share/edk2/aarch64/QEMU_EFI.fd"}},
}

// FirmwarePackage returns the Debian package with UEFI firmware for an architecture.
func FirmwarePackage(goArch string) string { return firmware[goArch].packet }

// FindFirmware returns the path of UEFI firmware for an architecture, which starts a disk image, or
// an error that says how to install it.
func FindFirmware(goArch string) (string, error) {
	known := firmware[goArch]
	for _, path := range known.paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("UEFI for QEMU's %s is not installed (none of %s): apt-get install %s", goArch, strings.Join(known.paths, ", "), known.packet)
}
