package android

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Describe returns the kernel's version and, on Android, the release, the root managers and the
// hypervisor in the boot properties.
func (p Phone) Describe(ctx context.Context) *health.Phone {
	d := &health.Phone{}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		d.Kernel = string(bytes.TrimRight(uts.Release[:], "\x00"))
	}
	if !p.Is() {
		return d
	}
	// A property that cannot be read is empty, like one that is not set.
	d.Android, _ = p.run(ctx, "getprop", "ro.build.version.release")
	d.Hypervisor, _ = p.run(ctx, "getprop", "ro.boot.hypervisor.version")
	for _, m := range phonepath.RootManagers {
		if _, err := os.Stat(filepath.Join(p.Root, m.Busybox)); err == nil {
			d.RootManager = append(d.RootManager, m.Name)
		}
	}
	return d
}
