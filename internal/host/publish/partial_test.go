package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/durable"
)

// TestPartialRemovedByHolder: a pull waits for a pull that then removes the directory. The lock
// that it gets must be on a new directory at the same path.
func TestPartialRemovedByHolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sql", ".arm64.pull-0123456789ab")
	first, err := lockPartial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockPartial(cancelled, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
	got := make(chan *durable.Lock)
	go func() {
		l, err := lockPartial(t.Context(), dir)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	first.Release()
	second := <-got
	if second == nil {
		return
	}
	defer second.Release()
	if _, err := durable.TryLock(dir, durable.Exclusive, durable.LockOptions{Existing: true}); !errors.Is(err, durable.ErrBusy) {
		t.Errorf("another lock on the directory that is there now: %v", err)
	}
}
