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

// spare is the room that is left for others, the machine's data disk among them, in bytes.
const spare = 32 << 20

// room is how many bytes can be written in a folder's file system.
func room(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask for the room in %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// used is how much room the files in a folder take, in bytes; 0 where there is none.
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

// allocated is how much room a file takes, in bytes: its holes take none.
func allocated(path string) int64 {
	var s unix.Stat_t
	if unix.Lstat(path, &s) != nil {
		return 0
	}
	return s.Blocks * 512 // stat(2): whatever the file system's blocks are
}

// makeRoom makes sure that need bytes can be written. Where they cannot, the slot that is to be
// replaced goes first; where that would not help, nothing goes, and the refusal says so.
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

// explainWrite makes an error of writing say what it means.
func explainWrite(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &pushapi.Refusal{Code: pushapi.CodeSpace, Text: fmt.Sprintf("the phone is full: %v: remove something from it and push again to resume", err)}
	}
	return err
}

// clear removes from a folder what is not to stay.
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
