package terminal

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// Harmless makes a line safe to print on a terminal: it removes colours and other control sequences
// and escapes other control characters as in Go.
func Harmless(line string) string {
	line = strings.ToValidUTF8(strings.TrimRight(line, "\r"), "\ufffd") // some terminals interpret bytes from 0x80 on as controls
	if !strings.ContainsFunc(line, unprintable) {
		return line
	}
	var b strings.Builder
	for _, r := range ansi.ReplaceAllString(line, "") {
		if unprintable(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != '\t' && !strconv.IsPrint(r) }

// ansi matches control sequences (ECMA-48, 5.4), such as colours.
var ansi = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]")

// A Writer applies Harmless to each line. Line ends are kept.
type Writer struct {
	w io.Writer

	mu   sync.Mutex
	held []byte // an incomplete character
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// ForScreen returns a Writer if w is a terminal, else w: output to a file or another program is not
// changed.
func ForScreen(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return NewWriter(w)
	}
	return w
}

// Raw returns the writer below a Writer, for a program of the user that controls the terminal
// itself, and w if it is not a Writer.
func Raw(w io.Writer) io.Writer {
	if harmless, ok := w.(*Writer); ok {
		return harmless.w
	}
	return w
}

// Write implements io.Writer.
func (h *Writer) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := append(h.held, p...)
	end := len(text) - incomplete(text)
	h.held = bytes.Clone(text[end:])
	lines := strings.SplitAfter(string(text[:end]), "\n")
	for i, line := range lines {
		content, ended := strings.CutSuffix(line, "\n")
		if lines[i] = Harmless(content); ended {
			lines[i] += "\n"
		}
	}
	if _, err := io.WriteString(h.w, strings.Join(lines, "")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// incomplete returns the length of an incomplete character at the end of text, in bytes.
func incomplete(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if last := text[len(text)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}
