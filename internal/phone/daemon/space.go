package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
)

const (
	spacePoll = 30 * time.Second
	// lowSpace is the minimum free space on a phone for growing disks, in bytes.
	lowSpace = 512 << 20
)

// watchSpace warns when the phone has too little space for the sparse files of the data disk and
// the volumes, until ctx ends. Otherwise the guest would see free space and failing writes.
func (d *Daemon) watchSpace(ctx context.Context) {
	ticker := time.NewTicker(spacePoll)
	defer ticker.Stop()
	for {
		warnings, err := phoneSpace(keptDisks(d.vm))
		if err != nil {
			d.log(fmt.Sprintf("room for the disks: %v", err))
			return
		}
		if !slices.Equal(d.state.get().Warnings, warnings) {
			d.state.change(func(s *runnerapi.State) { s.Warnings = warnings })
			for _, w := range warnings {
				d.log(w)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// phoneSpace returns warnings if the file system of sparse files has too little space for them to
// fill up.
func phoneSpace(disks []keptDisk) ([]string, error) {
	var free, needs int64
	for _, d := range disks {
		info, err := os.Stat(d.path)
		if err != nil {
			return nil, err
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(d.path, &fs); err != nil {
			return nil, fmt.Errorf("statfs %s: %w", d.path, err)
		}
		free = int64(fs.Bavail) * int64(fs.Bsize) // the same file system for all
		needs += info.Size() - info.Sys().(*syscall.Stat_t).Blocks*512
	}
	return spaceWarnings(free, needs), nil
}

// spaceWarnings compares the free space with the space that the disks may still need, in bytes.
func spaceWarnings(free, needs int64) []string {
	if free >= min(lowSpace, needs) {
		return nil
	}
	return []string{fmt.Sprintf("the phone has %d MiB free, and the machine's disks may still take %d MiB: make room on the phone, or services stop when it is full",
		free>>20, needs>>20)}
}
