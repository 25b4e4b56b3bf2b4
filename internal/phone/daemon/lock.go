package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
)

// errRunning says that a daemon of the machine is already running.
var errRunning = errors.New("a daemon runs already")

// takeLock takes the machine's lock, for the machine's daemon or a process that cleans up after it.
// The error wraps errRunning if another process has it. A process must not call lockHolder for a
// lock that it holds, see durable.ProcessLock.
func takeLock(vm phonepath.VM) (*durable.ProcessLock, error) {
	if err := durable.MkdirAll(vm.Run(), 0o700); err != nil {
		return nil, err
	}
	l, err := durable.TryProcessLock(vm.Lock())
	if errors.Is(err, durable.ErrBusy) {
		return nil, fmt.Errorf("lock %s: %w", vm.Lock(), errRunning)
	}
	return l, err
}

// lockHolder returns the process that holds the machine's lock, or 0.
func lockHolder(vm phonepath.VM) (int, error) { return durable.ProcessLockHolder(vm.Lock()) }

// A daemonProcess is a machine's daemon, held by a process descriptor so that a reused PID is not
// mistaken for it.
type daemonProcess struct {
	pid int
	fd  int // -1 if the kernel does not have process descriptors
}

// findDaemon returns the daemon that holds the machine's lock, or nil.
func findDaemon(vm phonepath.VM) (*daemonProcess, error) {
	pid, err := lockHolder(vm)
	if pid == 0 || err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil // it has ended meanwhile
	}
	if err != nil { // Linux before 5.3, on older phones
		fd = -1
	}
	d := &daemonProcess{pid, fd}
	// If it ended before the descriptor was opened, another process could have its PID, so check
	// the lock again.
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

// wait waits until the daemon has released the lock.
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
