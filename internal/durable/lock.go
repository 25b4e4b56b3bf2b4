package durable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy is wrapped by the error of a lock that has another holder.
var ErrBusy = errors.New("locked by another process")

// A Mode is the mode of a lock.
type Mode int

// A shared lock may have any number of holders, an exclusive lock only one.
const (
	Shared    Mode = unix.LOCK_SH
	Exclusive Mode = unix.LOCK_EX
)

// LockOptions are the options of a lock. With the zero value, a missing file is created with mode
// 0600 and kept.
type LockOptions struct {
	Existing  bool             // a file or folder that exists and is not written to
	Perm      fs.FileMode      // of a new file; 0 is 0600
	Transient bool             // the holder removes the file when it releases the lock
	NotePID   bool             // the holder of an exclusive lock writes its process ID to the file, for Holder
	OnWait    func(holder int) // called once by WaitLock if it has to wait; the holder is 0 if unknown
}

// A Lock is a flock(2) on a file or folder. Two locks in one process exclude each other like those
// of two processes.
type Lock struct {
	f         *os.File
	transient bool
	noted     bool
}

// TryLock locks the file or folder at path. If another holder has the lock, the error wraps
// ErrBusy.
func TryLock(path string, mode Mode, o LockOptions) (*Lock, error) {
	return acquire(path, mode, o, unix.LOCK_NB)
}

// lockPoll is the interval between WaitLock's attempts: a waiting flock(2) cannot be cancelled.
const lockPoll = 20 * time.Millisecond

// WaitLock is like TryLock, but waits until other holders release the lock. If ctx ends first, the
// error wraps ErrBusy and the context's cause.
func WaitLock(ctx context.Context, path string, mode Mode, o LockOptions) (*Lock, error) {
	l, err := TryLock(path, mode, o)
	if !errors.Is(err, ErrBusy) {
		return l, err
	}
	if o.OnWait != nil {
		o.OnWait(Holder(path))
	}
	if ctx.Done() == nil { // ctx never ends
		return acquire(path, mode, o, 0)
	}
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for errors.Is(err, ErrBusy) {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-poll.C:
		}
		l, err = TryLock(path, mode, o)
	}
	return l, err
}

// acquire takes the lock; how is 0 or LOCK_NB.
func acquire(path string, mode Mode, o LockOptions, how int) (*Lock, error) {
	for {
		f, err := openLock(path, mode, o)
		if err != nil {
			return nil, err
		}
		if err := flock(f, int(mode)|how); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		l := &Lock{f, o.Transient, o.NotePID && mode == Exclusive}
		// The previous holder may have removed the file. Other processes then cannot find the
		// locked file.
		if !SameFile(f, path) {
			l.unlock()
			continue
		}
		if l.noted {
			note(f) // the holder is unknown if the disk is full
		}
		return l, nil
	}
}

func openLock(path string, mode Mode, o LockOptions) (*os.File, error) {
	if o.Existing {
		return os.Open(path)
	}
	perm := o.Perm
	if perm == 0 {
		perm = 0o600
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, perm)
	if err != nil && mode == Shared {
		// On a read-only file system an existing file can still be locked shared.
		if readable, openErr := os.Open(path); openErr == nil {
			return readable, nil
		}
	}
	return f, err
}

// Release releases the lock. A second call does nothing.
func (l *Lock) Release() {
	switch {
	case l.f == nil:
		return
	case l.transient:
		os.Remove(l.f.Name())
	case l.noted:
		l.f.Truncate(0)
	}
	l.unlock()
}

// unlock unlocks the file before it closes it. A process that another goroutine has forked, and
// that has not executed its program yet, shares the open file and would still hold the lock.
func (l *Lock) unlock() {
	flock(l.f, unix.LOCK_UN)
	l.f.Close()
	l.f = nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrBusy
		case err != nil:
			return os.NewSyscallError("flock", err)
		default:
			return nil
		}
	}
}

// SameFile reports whether path still refers to the open file f.
func SameFile(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// note writes this process's ID to a lock file.
func note(f *os.File) {
	if err := f.Truncate(0); err == nil {
		f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
}

// Holder returns the process ID that a lock's holder has written, or 0.
func Holder(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
