//go:build linux

package disk

import (
	"context"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/guest/journal"
)

const (
	// spacePoll is the interval of checks of a disk's size and free space.
	spacePoll = 10 * time.Second
	// A disk is nearly full below a tenth or lowSpace bytes of free space, and full below
	// fullSpace: two WAL segments, without which PostgreSQL stops.
	lowSpace, fullSpace = 512 << 20, 32 << 20
)

// Watch enlarges the file system of the mounted disk when its device has grown, and logs when
// it fills up, until ctx is done.
func (d *Data) Watch(ctx context.Context) {
	warned, grows := "", true
	for {
		if grows {
			grows = d.grow(ctx)
		}
		data := d.Status()
		if level := spaceLevel(data.Size, data.Free); level != warned {
			warned = level
			if data.Warning != "" {
				d.Console.Log(journal.Warn, journal.InitName, data.Warning)
			} else {
				d.Console.Log(journal.Info, journal.InitName, "the "+d.Name()+" has room again", "free", mebibytes(data.Free))
			}
		}
		select {
		case <-time.After(spacePoll):
		case <-ctx.Done():
			return
		}
	}
}

// grow enlarges the file system to its device's size, and reports whether to retry later.
func (d *Data) grow(ctx context.Context) bool {
	if err := d.growMapping(ctx); err != nil {
		d.Problem(d.Name(), err)
		return false
	}
	from, to, err := growFileSystem(d.device, d.Spec.Path)
	if err != nil {
		d.Problem(d.Name(), err)
		return false
	}
	if to > from {
		d.Console.Log(journal.Info, journal.InitName, d.Name()+" enlarged", "from", mebibytes(from), "to", mebibytes(to))
	}
	return true
}

// spaceLevel returns "full", "nearly full" or "".
func spaceLevel(size, free int64) string {
	switch {
	case size == 0:
		return ""
	case free < fullSpace:
		return "full"
	case free < min(size/10, lowSpace):
		return "nearly full"
	}
	return ""
}

// spaceWarning returns a warning about the free space, or "".
func (d *Data) spaceWarning(size, free int64) string {
	level := spaceLevel(size, free)
	if level == "" {
		return ""
	}
	enlarge := "vm.data in the recipe, data_mib in the phone's settings"
	if d.Volume != "" {
		enlarge = "volumes in the recipe"
	}
	text := fmt.Sprintf("the %s is %s: %s of %s are free. Make room, or enlarge it (%s)", d.Name(), level, mebibytes(free), mebibytes(size), enlarge)
	if level == "full" && d.Volume == "" {
		text += "; PostgreSQL stops when it can write no more, and comes back when there is room"
	}
	return text
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
