package guestapi

import "testing"

func TestDescribe(t *testing.T) {
	s := &Status{Services: []Service{
		{Name: "ready", State: StateReady, LastOutput: []string{"hello"}},
		{Name: "waiting", State: StateWaiting},
		{Name: "backoff", State: StateBackoff, Reason: "exit status 1", LastOutput: []string{"starting", "FATAL:  no such file"}},
		{Name: "looping", State: StateLooping, Reason: "exit status 2"},
		{Name: "failed", State: StateFailed, Reason: "another major version", LastOutput: []string{"another major version"}},
	}}
	for _, c := range []struct {
		states []string
		want   string
	}{
		{nil, ""},
		{[]string{StateOff}, ""},
		{[]string{StateWaiting, StateFailed}, "waiting is waiting; failed is failed: another major version"},
		{[]string{StateBackoff, StateLooping}, "backoff has ended and will be started again: exit status 1: FATAL:  no such file; looping ends again and again: exit status 2"},
	} {
		if got := s.Describe(c.states...); got != c.want {
			t.Errorf("%q: %q, want %q", c.states, got, c.want)
		}
	}
}
