package receive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// spare is the space to leave free, for example for the machine's data disk, in bytes.
const spare = 32 << 20

// room returns how many bytes can be written to a folder's file system.
func room(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask for the room in %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// used returns the disk space of the files in a folder, in bytes; 0 if the folder does not exist.
func used(dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		n += allocated(filepath.Join(dir, e.Name()))
	}
	return n
}

// allocated returns a file's disk space in bytes, without holes.
func allocated(path string) int64 {
	var s unix.Stat_t
	if unix.Lstat(path, &s) != nil {
		return 0
	}
	return s.Blocks * 512 // stat(2): always units of 512
}

// makeRoom ensures that need bytes can be written. If necessary it first removes the slot that will
// be replaced. If that would not be enough, it removes nothing and returns a refusal.
func makeRoom(vm phonepath.VM, target string, need int64) error {
	need += spare
	free, err := room(vm.Slots())
	if err != nil || free >= need {
		return err
	}
	if free+used(vm.Slot(target)) < need {
		return noRoom(need, free, target)
	}
	if err := slots.Drop(vm, target); err != nil {
		return err
	}
	if free, err = room(vm.Slots()); err == nil && free < need {
		err = noRoom(need, free, target)
	}
	return err
}

func noRoom(need, free int64, target string) error {
	return &pushapi.Refusal{Code: pushapi.CodeSpace, Text: fmt.Sprintf(
		"there is not enough room on the phone: it takes %d MB and %d MB are free, with what slot %s holds given up: remove something from the phone",
		(need+1<<20-1)>>20, free>>20, target)}
}

// explainWrite adds an explanation to a write error.
func explainWrite(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &pushapi.Refusal{Code: pushapi.CodeSpace, Text: fmt.Sprintf("the phone is full: %v: remove something from it and push again to resume", err)}
	}
	return err
}

// clear removes all entries of a folder for which stays returns false.
func clear(dir string, stays func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if stays(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
