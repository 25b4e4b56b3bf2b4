package kernel

import (
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/kconfig"
)

// BootPartition is the GUID of the partition that the kernel of a disk image mounts as its root
// file system: it is part of the kernel's built-in command line (CONFIG_CMDLINE), so it is the same
// in every image. The GUIDs of the other partitions differ between images: sov-init finds those
// partitions on the same disk.
const BootPartition = "485755f3-87d0-4042-87a0-3c3bc981f669"

// CheckDisk returns an error if a kernel of that architecture with that configuration cannot boot a
// disk image: either an option is missing, or the built-in command line does not name
// BootPartition. Firmware starts the kernel with the built-in command line.
func CheckDisk(arch string, c kconfig.Config, f Features) error {
	f.Disk = true
	if missing := Check(arch, c, f); len(missing) > 0 {
		return &UnfitError{Kernel: "the kernel", Missing: missing}
	}
	if root := "root=PARTUUID=" + BootPartition; !strings.Contains(c["CMDLINE"], root+" ") {
		return fmt.Errorf("the kernel cannot boot a disk image: its command line (CONFIG_CMDLINE) must have %s, and is %.200s: leave out --kernel to have sov build one", root, c["CMDLINE"])
	}
	return nil
}
