// Package session lets programs use code that was written for tests and takes a testing.TB.
package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// A T is the part of a testing.TB that the simulated phone needs. What is made with one ends with
// it; Fatal and Skip end the goroutine that calls them.
type T interface {
	Helper()
	Context() context.Context // is done before the first function of Cleanup is called
	Cleanup(func())
	TempDir() string
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Skipf(format string, args ...any)
}

// Run calls do with a T that is no test, and calls the functions of Cleanup, the last one first,
// once do has returned. The error joins what the calls of Fatal and Skip say, of do and of these
// functions.
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

// call calls a function on a goroutine of its own, which Fatal may end.
func (s *session) call(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// pop takes the function that was added last, nil if none is left.
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
