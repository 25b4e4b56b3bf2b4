//go:build linux

// Package netnstest makes network namespaces for tests, as root.
package netnstest

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// New creates a network namespace and closes it at the end of the test.
func New(t testing.TB) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	err := onThread(func() (err error) {
		ns, err = netns.New()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// In runs fn in the network namespace ns and returns its error.
func In(ns netns.NsHandle, fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return fn()
	})
}

// onThread runs fn on a locked OS thread, which ends with fn: a thread that has changed its
// namespace must not run anything else.
func onThread(fn func() error) error {
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		c <- fn()
	}()
	return <-c
}
