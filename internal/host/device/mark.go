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

// marked returns a script that runs a shell command and then writes a mark to standard output,
// unless it is live, and the mark, the exit status and a newline to standard error. The command
// runs in a subshell, so that it cannot end the script.
func marked(command, mark string, live bool) string {
	out := "printf %s " + mark + "; "
	if live {
		out = ""
	}
	return fmt.Sprintf(`(%s); s=$?; %sprintf '%%s%%d\n' %s $s >&2`, command, out, mark)
}

// newMark returns a random text that commands do not print by chance.
func newMark() string { return "sov-end-" + rand.Text() + "-" }

// maxStatus is more than the digits of any exit status and the newline after them.
const maxStatus = 8

var errStatus = errors.New("the exit status is not a number")

// A stream passes a command's output on up to the mark, and drops everything after it.
type stream struct {
	to     io.Writer
	mark   []byte // nil: the stream has none
	status bool   // the mark is followed by an exit status
	ended  func() // called once, at the mark

	mu    sync.Mutex
	held  []byte // a possible start of the mark, or the data after it
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
		return len(p), nil // output of a daemon that the command has started
	}
	if s.err != nil {
		return 0, s.err
	}
	if s.mark == nil {
		s.put(p)
		return len(p), s.err
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

// pass writes the data that cannot be a part of the mark.
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

// beginning returns how many bytes at the end of text are a prefix of mark.
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

// finish reads the data after the mark.
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

// rest passes held data on if the mark did not come.
func (s *stream) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.found && s.err == nil {
		s.put(s.held)
		s.held = nil
	}
}

// A tail is a writer that keeps the last bytes.
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
