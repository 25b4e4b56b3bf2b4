package store

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A transient lock excludes although its file comes and goes.
func TestTransientLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var inside, held atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for held.Load() < 300 {
				l, err := tryLock(path, exclusive, true)
				if errors.Is(err, errLockBusy) {
					runtime.Gosched()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d holders at once", n)
				}
				held.Add(1)
				for range 20 { // give the others time to get in
					runtime.Gosched()
				}
				inside.Add(-1)
				l.release()
			}
		})
	}
	wg.Wait()
}

func TestSharedLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, err := tryLock(path, shared, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tryLock(path, shared, false)
	if err != nil {
		t.Fatal("two shared locks exclude each other")
	}
	if _, err := tryLock(path, exclusive, false); !errors.Is(err, errLockBusy) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	a.release()
	b.release()
	c, err := waitLock(context.Background(), path, exclusive, false, func(string) { t.Error("waits for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.release()
	ctx, cancel := context.WithCancel(context.Background())
	holder := ""
	_, err = waitLock(ctx, path, exclusive, false, func(h string) { holder = h; cancel() })
	if !errors.Is(err, context.Canceled) || holder == "another process" {
		t.Errorf("error %v while %q holds it", err, holder)
	}
}
