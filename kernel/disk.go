package kernel

import (
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/kconfig"
)

// BootPartition is the GUID of the partition that the kernel of a disk image mounts as its root
// file system: it is part of the kernel's own command line (CONFIG_CMDLINE), which the same kernel
// has in every image. sov-init finds the other partitions beside it, so theirs differ from image to
// image.
const BootPartition = "485755f3-87d0-4042-87a0-3c3bc981f669"

// CheckDisk returns an error if a kernel of that architecture with that configuration cannot boot a
// disk image: it lacks an option, or its own command line, with which firmware starts it, does not
// name BootPartition.
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
