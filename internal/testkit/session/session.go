// Package session lets programs run test code that expects a testing.TB.
package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// A T is the part of a testing.TB that the simulated phone needs. Resources made with a T end with
// it. Fatal and Skip end the calling goroutine.
type T interface {
	Helper()
	Context() context.Context // done before the first Cleanup function runs
	Cleanup(func())
	TempDir() string
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Skipf(format string, args ...any)
}

// Run calls do with a T outside a test. When do has returned, Run calls the Cleanup functions, the
// last one first. It returns the joined errors of all calls of Fatal and Skip.
func Run(ctx context.Context, do func(T)) error {
	s := &session{}
	ctx, cancel := context.WithCancel(ctx)
	s.ctx = ctx
	s.call(func() { do(s) })
	cancel()
	for f := s.pop(); f != nil; f = s.pop() {
		s.call(f)
	}
	return errors.Join(s.errs...)
}

type session struct {
	ctx      context.Context
	mu       sync.Mutex
	cleanups []func()
	errs     []error
}

// call calls f in a new goroutine, which Fatal may end, and waits for it.
func (s *session) call(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// pop removes and returns the function that was added last, or nil.
func (s *session) pop() (f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.cleanups) - 1; last >= 0 {
		f, s.cleanups = s.cleanups[last], s.cleanups[:last]
	}
	return f
}

func (s *session) fail(err error) {
	s.mu.Lock()
	s.errs = append(s.errs, err)
	s.mu.Unlock()
	runtime.Goexit()
}

func (s *session) Helper()                  {}
func (s *session) Context() context.Context { return s.ctx }

func (s *session) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *session) TempDir() string {
	dir, err := os.MkdirTemp("", "sov-")
	if err != nil {
		s.fail(err)
	}
	s.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.fail(err)
		}
	})
	return dir
}

func (s *session) Fatal(args ...any)                 { s.fail(errors.New(fmt.Sprint(args...))) }
func (s *session) Fatalf(format string, args ...any) { s.fail(fmt.Errorf(format, args...)) }
func (s *session) Skip(args ...any)                  { s.Fatal(args...) }
func (s *session) Skipf(format string, args ...any)  { s.Fatalf(format, args...) }
