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
	// lowSpace is what a phone should have free for a data disk that is still to grow, in bytes.
	lowSpace = 512 << 20
)

// watchSpace warns when the phone has little room for the data disk, whose file takes room as it fills, until ctx ends. The
// guest sees a disk with room on it, and writes that fail.
func (d *Daemon) watchSpace(ctx context.Context) {
	ticker := time.NewTicker(spacePoll)
	defer ticker.Stop()
	for {
		warnings, err := phoneSpace(d.vm.Data())
		if err != nil {
			d.log(fmt.Sprintf("room for the data disk: %v", err))
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

// phoneSpace says where the file system of a sparse file has too little room for it to fill up; nil where it has enough.
func phoneSpace(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil, fmt.Errorf("statfs %s: %w", path, err)
	}
	taken := info.Sys().(*syscall.Stat_t).Blocks * 512
	return spaceWarnings(int64(fs.Bavail)*int64(fs.Bsize), info.Size()-taken), nil
}

// spaceWarnings compares the room that there is with what the data disk may still take, in bytes.
func spaceWarnings(free, needs int64) []string {
	if free >= min(lowSpace, needs) {
		return nil
	}
	return []string{fmt.Sprintf("the phone has %d MiB free, and the data disk may still take %d MiB: make room on the phone, or PostgreSQL stops when it is full",
		free>>20, needs>>20)}
}
