package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A fileLock is a flock(2) on a file of the locks directory. The kernel drops it when its process
// dies, however it dies. Two locks in one process exclude each other like those of two processes.
type fileLock struct {
	f    *os.File
	mode lockMode
	// transient locks take their file with them when they are released.
	transient bool
}

// lockMode is unix.LOCK_SH or unix.LOCK_EX.
type lockMode int

const (
	shared    lockMode = unix.LOCK_SH
	exclusive lockMode = unix.LOCK_EX
)

// errLockBusy says that someone else holds a lock.
var errLockBusy = errors.New("locked by another process")

// lockPollInterval is how often a wanted lock is tried. flock(2) can wait by itself, but not be
// cancelled.
const lockPollInterval = 20 * time.Millisecond

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return errLockBusy
		case err != nil:
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		default:
			return nil
		}
	}
}

// samePath reports whether path still leads to the open file f.
func samePath(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// tryLock locks path, creating the file, or fails with errLockBusy. On a read-only file system a
// shared lock is taken on the file as it is.
func tryLock(path string, mode lockMode, transient bool) (*fileLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil && mode == shared {
			if ro, roErr := os.Open(path); roErr == nil {
				f, err = ro, nil
			}
		}
		if err != nil {
			return nil, err
		}
		if err := flock(f, int(mode)|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		// The holder before may have removed the file on release, which leaves this lock on a file
		// that no other process will find.
		if !samePath(f, path) {
			f.Close()
			continue
		}
		if mode == exclusive {
			notePID(f)
		}
		return &fileLock{f, mode, transient}, nil
	}
}

// waitLock is tryLock until it succeeds or ctx ends. onWait, if not nil, is called once, with the
// holder of the lock, when there is something to wait for.
func waitLock(ctx context.Context, path string, mode lockMode, transient bool, onWait func(holder string)) (*fileLock, error) {
	l, err := tryLock(path, mode, transient)
	if !errors.Is(err, errLockBusy) {
		return l, err
	}
	if onWait != nil {
		onWait(lockHolder(path))
	}
	poll := time.NewTicker(lockPollInterval)
	defer poll.Stop()
	for errors.Is(err, errLockBusy) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-poll.C:
		}
		l, err = tryLock(path, mode, transient)
	}
	return l, err
}

// release gives the lock up.
func (l *fileLock) release() {
	switch {
	case l.transient:
		os.Remove(l.f.Name())
	case l.mode == exclusive:
		l.f.Truncate(0)
	}
	l.f.Close()
}

// Lock keeps other builds from making the result under a key until release is called. onWait, if
// not nil, is called once, with the holder of the lock, if there is something to wait for.
func (s *Store) Lock(ctx context.Context, key string, onWait func(holder string)) (release func(), err error) {
	l, err := waitLock(ctx, s.lockPath(key), exclusive, true, onWait)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}

// LockBlob keeps others from fetching a blob until release is called.
func (s *Store) LockBlob(ctx context.Context, d Digest) (release func(), err error) {
	return s.Lock(ctx, fetchLockPrefix+d.Hex(), nil)
}

// fetchLockPrefix sets the locks of blobs apart from those of records.
const fetchLockPrefix = "fetch-"

// notePID writes this process's id into a lock file, for people who wait.
func notePID(f *os.File) {
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(io.NewOffsetWriter(f, 0), "%d\n", os.Getpid())
	}
}

// lockHolder says who holds the lock at path, as far as that is known.
func lockHolder(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "another process"
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}
