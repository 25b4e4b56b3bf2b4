package fleet

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// A lineWriter passes on whole lines from a phone, with a prefix and without control characters.
type lineWriter struct {
	to     io.Writer
	prefix string
	mu     *sync.Mutex // shared by all writers to the same destination; nil if there is only this one

	holding sync.Mutex
	held    []byte
}

// maxHeldLine is the length at which a line is broken, in bytes.
const maxHeldLine = 64 << 10

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.holding.Lock()
	defer w.holding.Unlock()
	w.held = append(w.held, p...)
	for {
		n := bytes.IndexByte(w.held, '\n')
		if n < 0 && len(w.held) < maxHeldLine {
			return len(p), nil
		}
		line := w.held
		rest := []byte(nil)
		if n >= 0 {
			line, rest = w.held[:n], w.held[n+1:]
		}
		if err := w.line(line); err != nil {
			return 0, err
		}
		w.held = append([]byte(nil), rest...)
	}
}

func (w *lineWriter) flush() {
	w.holding.Lock()
	defer w.holding.Unlock()
	if len(w.held) > 0 {
		w.line(w.held)
		w.held = nil
	}
}

func (w *lineWriter) line(text []byte) error {
	if w.mu != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
	}
	_, err := fmt.Fprintf(w.to, "%s%s\n", w.prefix, terminal.Harmless(string(text)))
	return err
}
