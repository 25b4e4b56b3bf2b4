package store

import (
	"context"
	"fmt"

	"github.com/sovereign-sql/sov/internal/durable"
)

// lock locks a file of the locks directory. onWait, if not nil, is called once with the holder of
// the lock if another process holds it.
func (s *Store) lock(ctx context.Context, name string, mode durable.Mode, o durable.LockOptions, onWait func(holder string)) (*durable.Lock, error) {
	o.Perm, o.NotePID = 0o644, true
	if onWait != nil {
		o.OnWait = func(pid int) { onWait(holderName(pid)) }
	}
	return durable.WaitLock(ctx, s.lockPath(name), mode, o)
}

// holderName names the holder of a lock, if it is known.
func holderName(pid int) string {
	if pid == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

// Lock prevents other builds from making the result under a key until release is called. onWait, if
// not nil, is called once with the holder of the lock if another process holds it.
func (s *Store) Lock(ctx context.Context, key string, onWait func(holder string)) (release func(), err error) {
	l, err := s.lock(ctx, key, durable.Exclusive, durable.LockOptions{Transient: true}, onWait)
	if err != nil {
		return nil, err
	}
	return l.Release, nil
}

// LockBlob prevents other processes from fetching a blob until release is called.
func (s *Store) LockBlob(ctx context.Context, d Digest) (release func(), err error) {
	return s.Lock(ctx, fetchLockPrefix+d.Hex(), nil)
}

// fetchLockPrefix distinguishes the locks of blobs from those of records.
const fetchLockPrefix = "fetch-"
