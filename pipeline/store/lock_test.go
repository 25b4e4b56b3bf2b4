package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
)

// TestLockNamesItsHolder checks that a waiter receives the name of the lock's holder, and that the
// holder removes the lock's file.
func TestLockNamesItsHolder(t *testing.T) {
	s := openStore(t, t.TempDir())
	release, err := s.Lock(t.Context(), "key", func(string) { t.Error("Lock waits without a holder") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	holder := ""
	_, err = s.Lock(ctx, "key", func(h string) { holder = h; cancel() })
	if want := fmt.Sprintf("process %d", os.Getpid()); !errors.Is(err, context.Canceled) || holder != want {
		t.Errorf("error %v while %q holds it, want %q", err, holder, want)
	}
	release()
	if _, err := os.Stat(s.lockPath("key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of a released lock: %v", err)
	}
}
