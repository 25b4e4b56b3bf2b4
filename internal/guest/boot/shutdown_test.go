//go:build linux

package boot

import (
	"testing"
	"time"
)

func TestWithin(t *testing.T) {
	forever := make(chan struct{})
	defer close(forever)
	if within(time.Millisecond, func() { <-forever }) {
		t.Error("what does not end passes for ended")
	}
	if !within(time.Minute, func() {}) {
		t.Error("what has ended passes for stuck")
	}
}

func TestOnlyTheFirstRequestCounts(t *testing.T) {
	m := &machine{requests: make(chan string, 1)}
	m.RequestShutdown("first")
	m.RequestShutdown("second") // does not block
	if reason := <-m.requests; reason != "first" {
		t.Errorf("reason %q", reason)
	}
}
