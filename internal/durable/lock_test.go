package durable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := start(t, "lock", path)
	for _, mode := range []Mode{Shared, Exclusive} {
		if _, err := TryLock(path, mode, LockOptions{}); !errors.Is(err, ErrBusy) {
			t.Errorf("beside an exclusive lock: %v", err)
		}
	}
	if pid := Holder(path); pid != holder.Process.Pid {
		t.Errorf("the holder is %d, want %d", pid, holder.Process.Pid)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	holder.kill()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := WaitLock(ctx, path, Exclusive, LockOptions{NotePID: true})
	if err != nil {
		t.Fatalf("the lock of a process that was killed: %v", err)
	}
	if pid := Holder(path); pid != os.Getpid() {
		t.Errorf("the holder is %d, want %d", pid, os.Getpid())
	}
	l.Release()
	l.Release()
	if pid := Holder(path); pid != 0 {
		t.Errorf("after the release the holder is %d", pid)
	}
}

func TestSharedLocks(t *testing.T) {
	dir := t.TempDir() // a folder can be locked, too
	holder := start(t, "shared", dir)
	l, err := TryLock(dir, Shared, LockOptions{Existing: true})
	if err != nil {
		t.Fatalf("two shared locks: %v", err)
	}
	l.Release()
	if _, err := TryLock(dir, Exclusive, LockOptions{Existing: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	holder.stop()
	if l, err = TryLock(dir, Exclusive, LockOptions{Existing: true}); err != nil {
		t.Fatal(err)
	}
	l.Release()
	if _, err := TryLock(filepath.Join(dir, "missing"), Shared, LockOptions{Existing: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what does not exist: %v", err)
	}
}

// TestWait verifies that waiters get the lock when the holder ends, and that a cancelled waiter
// returns. A waiter that cannot be cancelled waits in the kernel, others poll.
func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := start(t, "lock", path)
	cancelled, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	asked := 0
	_, err := WaitLock(cancelled, path, Exclusive, LockOptions{OnWait: func(pid int) { asked = pid; cancel(reason) }})
	if !errors.Is(err, reason) || !errors.Is(err, ErrBusy) || asked != holder.Process.Pid {
		t.Errorf("%v, while %d holds it", err, asked)
	}

	polling, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	waiting, done := make(chan bool, 2), make(chan error, 2)
	for _, ctx := range []context.Context{context.Background(), polling} {
		go func() {
			l, err := WaitLock(ctx, path, Exclusive, LockOptions{OnWait: func(int) { waiting <- true }})
			if err == nil {
				l.Release()
			}
			done <- err
		}()
	}
	<-waiting
	<-waiting
	holder.kill()
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-polling.Done():
			t.Fatal("no process got the lock of a killed process")
		}
	}
}

// TestRemovedByHolder verifies that a waiter whose lock file was removed locks the new file that
// other processes find.
func TestRemovedByHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := start(t, "transient", path)
	waiting, done := make(chan bool), make(chan *Lock)
	go func() {
		l, err := WaitLock(context.Background(), path, Exclusive, LockOptions{OnWait: func(int) { close(waiting) }})
		if err != nil {
			t.Error(err)
		}
		done <- l
	}()
	<-waiting
	holder.stop()
	l := <-done
	if l == nil {
		return
	}
	defer l.Release()
	if _, err := TryLock(path, Exclusive, LockOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("another lock on the file that is there now: %v", err)
	}
}

// TestTransientExcludes verifies that a transient lock excludes others although its file is removed
// and re-created.
func TestTransientExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var inside, held atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for held.Load() < 300 {
				l, err := TryLock(path, Exclusive, LockOptions{Transient: true})
				if errors.Is(err, ErrBusy) {
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
				for range 20 { // let the others run
					runtime.Gosched()
				}
				inside.Add(-1)
				l.Release()
			}
		})
	}
	wait.Wait()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestReleaseBesideForks verifies that a released lock is free even while other programs are
// started.
func TestReleaseBesideForks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	stop := make(chan bool)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
				if err != nil {
					t.Error(err)
					return
				}
				p.Wait()
			}
		}
	})
	for range 2000 {
		l, err := TryLock(path, Exclusive, LockOptions{})
		if err != nil {
			t.Error(err)
			break
		}
		l.Release()
	}
	close(stop)
	wait.Wait()
}

func TestHolderOfDamagedNote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid := Holder(path); pid != 0 {
		t.Errorf("of no file: %d", pid)
	}
	for _, text := range []string{"", "x", "-1\n", "12x\n", "1 2"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid := Holder(path); pid != 0 {
			t.Errorf("of %q: %d", text, pid)
		}
	}
}

func TestProcessLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid, err := ProcessLockHolder(path); pid != 0 || err != nil {
		t.Errorf("of no file: %d, %v", pid, err)
	}
	holder := start(t, "process", path)
	if _, err := TryProcessLock(path); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one took the lock: %v", err)
	}
	if pid, err := ProcessLockHolder(path); pid != holder.Process.Pid || err != nil {
		t.Errorf("the holder is %d, %v; want %d", pid, err, holder.Process.Pid)
	}
	holder.kill()
	if pid, err := ProcessLockHolder(path); pid != 0 || err != nil {
		t.Errorf("after it was killed, the holder is %d, %v", pid, err)
	}
	l, err := TryProcessLock(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}
