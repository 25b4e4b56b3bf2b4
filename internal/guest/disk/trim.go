//go:build linux

package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/guest/journal"
)

const (
	// ioctlTrim is FITRIM (include/uapi/linux/fs.h): _IOWR('X', 121, struct fstrim_range).
	ioctlTrim = 0xc0185879
	// trimPart is how much of the disk is trimmed at a time, in bytes: neither other writers nor
	// the machine's end wait for the whole.
	trimPart = 1 << 30
	trimRest = 24 * time.Hour
)

// trimRange is struct fstrim_range.
type trimRange struct{ start, length, least uint64 }

// KeepTrimmed tells the device of the mounted disk which blocks are free, now and every day, until
// ctx is done: the disk's file on the host gives their room back. The option discard of the file
// system would do so at each deletion, and have whoever deletes wait for it.
func (d *Data) KeepTrimmed(ctx context.Context) {
	for {
		freed, err := d.trim(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.EOPNOTSUPP):
			d.Console.Log(journal.Info, journal.InitName, d.Name()+" not trimmed: its device does not release freed blocks")
			return
		case err != nil:
			d.Console.Log(journal.Warn, journal.InitName, "cannot trim the "+d.Name(), "error", err)
		default:
			d.Console.Log(journal.Info, journal.InitName, d.Name()+" trimmed", "free", mebibytes(freed))
		}
		select {
		case <-time.After(trimRest):
		case <-ctx.Done():
			return
		}
	}
}

// trim returns how many bytes the device was told of.
func (d *Data) trim(ctx context.Context) (freed int64, err error) {
	size := uint64(d.Status().Size)
	for start := uint64(0); start < size && ctx.Err() == nil; start += trimPart {
		n, err := d.trimPart(start)
		if err != nil {
			return freed, err
		}
		freed += n
	}
	return freed, nil
}

func (d *Data) trimPart(start uint64) (freed int64, err error) {
	d.trimming.Lock() // Release waits: an open file keeps the disk from being unmounted
	defer d.trimming.Unlock()
	d.mu.Lock()
	mounted := d.mounted
	d.mu.Unlock()
	if !mounted {
		return 0, nil
	}
	f, err := os.Open(d.Spec.Path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := trimRange{start: start, length: trimPart}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlTrim, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return 0, fmt.Errorf("trim %s: %w", d.Spec.Path, errno)
	}
	return int64(r.length), nil // the kernel puts the number of bytes there
}
