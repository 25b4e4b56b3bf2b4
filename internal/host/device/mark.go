package device

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
)

// marked makes a script of a shell command that, once the command has ended, writes a mark to
// standard output, and the mark, the exit status and a newline to standard error. The command runs
// in a shell of its own, so that it cannot end this one.
func marked(command, mark string) string {
	return fmt.Sprintf(`(%s); s=$?; printf %%s %[2]s; printf '%%s%%d\n' %[2]s $s >&2`, command, mark)
}

// newMark returns a text that no command prints by chance.
func newMark() string { return "sov-end-" + rand.Text() + "-" }

// maxStatus is more than the digits of any exit status and the newline after them.
const maxStatus = 8

var errStatus = errors.New("the exit status is not a number")

// A stream passes on what a command writes up to the mark, and drops what comes after it.
type stream struct {
	to     io.Writer
	mark   []byte
	status bool   // the mark is followed by an exit status
	ended  func() // called once, at the mark

	mu    sync.Mutex
	held  []byte // what may be the beginning of a mark, or what followed it
	found bool
	done  bool
	code  int
	err   error // what writing failed with
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return len(p), nil // of a daemon that the command has left behind
	}
	if s.err != nil {
		return 0, s.err
	}
	s.held = append(s.held, p...)
	if !s.found {
		s.pass()
	}
	if s.found && s.err == nil {
		s.finish()
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// pass writes on what cannot be a part of the mark.
func (s *stream) pass() {
	n := bytes.Index(s.held, s.mark)
	if n >= 0 {
		s.found = true
		s.put(s.held[:n])
		s.held = append([]byte(nil), s.held[n+len(s.mark):]...)
		return
	}
	n = len(s.held) - beginning(s.held, s.mark)
	s.put(s.held[:n])
	s.held = append(s.held[:0], s.held[n:]...)
}

// beginning is how many bytes at the end of text are the beginning of mark.
func beginning(text, mark []byte) int {
	for n := min(len(text), len(mark)-1); n > 0; n-- {
		if bytes.HasSuffix(text, mark[:n]) {
			return n
		}
	}
	return 0
}

func (s *stream) put(p []byte) {
	if len(p) > 0 && s.to != nil {
		_, s.err = s.to.Write(p)
	}
}

// finish reads what comes after the mark.
func (s *stream) finish() {
	if s.status {
		line, _, whole := bytes.Cut(s.held, []byte("\n"))
		if !whole && len(s.held) < maxStatus {
			return
		}
		code, err := strconv.ParseUint(string(line), 10, 8)
		if !whole || err != nil {
			s.err = errStatus
			return
		}
		s.code = int(code)
	}
	s.done, s.held = true, nil
	s.ended()
}

// result returns whether the mark has come, the exit status after it, and what writing failed with.
func (s *stream) result() (done bool, code int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done, s.code, s.err
}

// rest passes on what was held back for a mark that never came.
func (s *stream) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.found && s.err == nil {
		s.put(s.held)
		s.held = nil
	}
}

// A tail keeps the last bytes of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// maxTail is how much a tail keeps, in bytes.
const maxTail = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[max(0, len(p)-maxTail):]...)
	t.text = t.text[max(0, len(t.text)-maxTail):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
