//go:build linux

package journal

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func at(second int) func() time.Time {
	return func() time.Time { return time.Date(2026, 7, 1, 12, 0, second, 5e6, time.UTC) }
}

func TestConsoleLines(t *testing.T) {
	var b bytes.Buffer
	c := NewConsole(&b, at(7))
	c.Log(Info, "init", "starting", "image", "sql", "error", "it is\nbroken", "empty", "", "n", 3)
	c.Output("postgres", "LOG:\tready \x1b[31mred\x1b[0m \xff\x00 é\u202e")
	c.Flush(time.Minute)
	want := `sov-init[1]: 2026-07-01T12:00:07.005Z info init: starting image=sql error="it is\nbroken" empty="" n=3` + "\n" +
		"sov-init[1]: 2026-07-01T12:00:07.005Z out postgres: LOG:\tready " + `\x1b[31mred\x1b[0m \xff\x00` + " é" + `\u202e` + "\n"
	if b.String() != want {
		t.Errorf("got\n%q, want\n%q", b.String(), want)
	}
}

// stuck is a console that blocks writes until it is released.
type stuck struct {
	free chan struct{}
	mu   sync.Mutex
	b    bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func TestStuckConsoleDoesNotBlock(t *testing.T) {
	s := &stuck{free: make(chan struct{})}
	c := NewConsole(s, at(0))
	for range queueLength + 100 {
		c.Output("a", "line")
	}
	c.Flush(10 * time.Millisecond)
	close(s.free)
	c.Flush(time.Minute)
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := s.b.String(); !strings.Contains(text, "lines were dropped lines=") {
		t.Errorf("nothing says that lines were dropped: %d bytes", len(text))
	}
}

// TestFlushWhileOthersLog: many goroutines write lines and flush at once. A panic here would be a
// panic of PID 1 during its shutdown.
func TestFlushWhileOthersLog(t *testing.T) {
	c := NewConsole(io.Discard, at(0))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				c.Output("a", "line")
				c.Flush(time.Minute)
			}
		})
	}
	all.Wait()
}

func FuzzConsole(f *testing.F) {
	f.Add("text", "value")
	f.Add("\x1b]0;title\a", "\"")
	f.Fuzz(func(t *testing.T, text, value string) {
		defer costtest.Text.Watch(t, len(text)+len(value))()
		c := &Console{now: at(0)}
		line := c.format(Info, "init", text, "k", value)
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
			t.Errorf("not one line: %q", line)
		}
		if strings.ContainsAny(line, "\x00\x07\x1b\r\u009b\u2028") {
			t.Errorf("control characters in %q", line)
		}
	})
}
