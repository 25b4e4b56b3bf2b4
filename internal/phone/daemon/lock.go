package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// errRunning says that a daemon keeps the machine already.
var errRunning = errors.New("a daemon runs already")

// A daemonLock is held by a machine's daemon, or by whoever cleans up after one. It is a lock of the process (fcntl(2),
// F_SETLK), which the kernel lets go when the process ends in whatever way, and of which it names the holder.
type daemonLock struct{ file *os.File }

var wholeFile = unix.Flock_t{Type: unix.F_WRLCK}

// takeLock takes the machine's lock. The error wraps errRunning when another process has it. A process must not look
// for the holder (lockHolder) of a lock that it holds: closing the file would let it go.
func takeLock(vm phonepath.VM) (*daemonLock, error) {
	if err := os.MkdirAll(vm.Run(), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(vm.Lock(), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	want := wholeFile
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &want); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = errRunning
		}
		return nil, fmt.Errorf("lock %s: %w", vm.Lock(), err)
	}
	return &daemonLock{f}, nil
}

// release lets the lock go. The file stays: removing it would let two processes lock two files of one name.
func (l *daemonLock) release() { l.file.Close() }

// lockHolder returns the process that holds the machine's lock, or 0.
func lockHolder(vm phonepath.VM) (int, error) {
	f, err := os.OpenFile(vm.Lock(), os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	found := wholeFile
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &found); err != nil {
		return 0, fmt.Errorf("ask who holds %s: %w", vm.Lock(), err)
	}
	if found.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(found.Pid), nil
}

// A daemonProcess is a machine's daemon, held in a way that cannot mistake another process for it.
type daemonProcess struct {
	pid int
	fd  int // -1 where the kernel has no process descriptors
}

// findDaemon returns the daemon that holds the machine's lock, or nil.
func findDaemon(vm phonepath.VM) (*daemonProcess, error) {
	pid, err := lockHolder(vm)
	if pid == 0 || err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil // it has just ended
	}
	if err != nil { // Linux before 5.3, as on older phones
		fd = -1
	}
	d := &daemonProcess{pid, fd}
	// Had it ended before the descriptor was opened, another process could have its number; the lock tells.
	if again, err := lockHolder(vm); again != pid || err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *daemonProcess) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
}

func (d *daemonProcess) signal(s unix.Signal) error {
	if d.fd < 0 {
		return unix.Kill(d.pid, s)
	}
	return unix.PidfdSendSignal(d.fd, s, nil, 0)
}

// wait returns when the daemon has let the lock go.
func (d *daemonProcess) wait(ctx context.Context, vm phonepath.VM) error {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		holder, err := lockHolder(vm)
		if holder != d.pid {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

const lockPoll = 20 * time.Millisecond
