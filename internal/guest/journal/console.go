//go:build linux

package journal

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// The levels of a log line.
const (
	Info   = "info"
	Warn   = "warn"
	Error  = "error"
	output = "out"
)

// InitName is the service name in lines about the init itself.
const InitName = "init"

// A Console writes the log. Lines pass through a bounded queue to a separate writer, so that an
// unread console does not block services or the shutdown; lines that do not fit are counted and
// dropped.
type Console struct {
	now     func() time.Time
	tee     func(service, line string) // called with every line, without its prefix; may be nil
	queue   chan entry
	dropped atomic.Int64
}

// An entry of the queue is a line, or a flush request.
type entry struct {
	line    string
	written chan<- struct{} // closed when it is reached; nil for a line
}

// queueLength is enough for the lines of a start; with about 100 bytes per line it is 200 KB.
const queueLength = 2048

// NewConsole starts to write lines to w for as long as the process lives.
func NewConsole(w io.Writer, now func() time.Time) *Console {
	c := &Console{now: now, queue: make(chan entry, queueLength)}
	go func() {
		for e := range c.queue {
			if e.written != nil {
				close(e.written)
				continue
			}
			line := e.line
			if n := c.dropped.Swap(0); n > 0 {
				line += c.format(Warn, InitName, "the console is too slow, lines were dropped", "lines", n)
			}
			io.WriteString(w, line) // an error cannot be reported
		}
	}()
	return c
}

// Tee sets a function that is called with every line, without its prefix. It must be called before
// the first line.
func (c *Console) Tee(fn func(service, line string)) { c.tee = fn }

// Log writes one line about service; attrs are pairs of a key and a value.
func (c *Console) Log(level, service, text string, attrs ...any) {
	c.enqueue(service, c.format(level, service, text, attrs...))
}

// Output writes one line that service printed.
func (c *Console) Output(service, line string) {
	c.enqueue(service, c.format(output, service, line))
}

// Warnings returns a writer that logs every write as a warning of the init, for package log.
func (c *Console) Warnings() io.Writer { return warnings{c} }

type warnings struct{ *Console }

// Write implements io.Writer.
func (w warnings) Write(p []byte) (int, error) {
	w.Log(Warn, InitName, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// prefix distinguishes the init's lines from the kernel's on the console.
const prefix = "sov-init[1]: "

func (c *Console) enqueue(service, line string) {
	if c.tee != nil {
		c.tee(service, strings.TrimSuffix(strings.TrimPrefix(line, prefix), "\n"))
	}
	select {
	case c.queue <- entry{line: line}:
	default:
		c.dropped.Add(1)
	}
}

// Flush waits until the lines logged so far are written, but no longer than limit.
func (c *Console) Flush(limit time.Duration) {
	late := time.After(limit)
	written := make(chan struct{})
	select {
	case c.queue <- entry{written: written}:
	case <-late:
		return
	}
	select {
	case <-written:
	case <-late:
	}
}

func (c *Console) format(level, service, text string, attrs ...any) string {
	var b strings.Builder
	fmt.Fprintf(&b, prefix+"%s %s %s: ", c.now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), level, service)
	escape(&b, text)
	for i := 0; i+1 < len(attrs); i += 2 {
		fmt.Fprintf(&b, " %v=%s", attrs[i], quoteIfNeeded(fmt.Sprint(attrs[i+1])))
	}
	b.WriteByte('\n')
	return b.String()
}

// quoteIfNeeded returns s, quoted if it would be ambiguous.
func quoteIfNeeded(s string) string {
	if s == "" || strings.ContainsAny(s, " \"=\\") || strconv.Quote(s) != `"`+s+`"` {
		return strconv.Quote(s)
	}
	return s
}

// escape writes s with line breaks and control characters escaped.
func escape(b *strings.Builder, s string) {
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(b, `\x%02x`, s[0])
		case r == '\t' || strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[size:]
	}
}
