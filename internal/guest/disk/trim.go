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
	// trimPart is how many bytes of the disk are trimmed at a time, so that other writers and a
	// shutdown need not wait for the whole disk.
	trimPart = 1 << 30
	trimRest = 24 * time.Hour
)

// trimRange is struct fstrim_range.
type trimRange struct{ start, length, least uint64 }

// KeepTrimmed trims the mounted disk now and every day, until ctx is done, so that the disk's file
// on the host shrinks. The mount option discard would delay each deletion instead.
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

// trim trims the free blocks and returns their size in bytes.
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
	d.trimming.Lock() // Release waits: an open file would prevent the unmount
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
	return int64(r.length), nil // the kernel returns the number of bytes there
}
