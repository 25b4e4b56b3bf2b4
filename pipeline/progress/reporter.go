package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// A Reporter displays events. Report may be called by several goroutines at once and returns
// quickly.
type Reporter interface {
	Report(Event)
	// Close leaves the output in order: a live display is replaced by plain lines. It returns the
	// first error met while writing.
	Close() error
}

// Silent is a Reporter that shows nothing.
type Silent struct{}

// Report does nothing.
func (Silent) Report(Event) {}

// Close does nothing.
func (Silent) Close() error { return nil }

// NewReporter returns a reporter that writes to w.
//
// Modes are "tty" (a live display for a terminal), "plain" (a line at the start and end of each
// stage, and every few seconds in between), "json" (one object a line, described at JSONEvent) and
// "auto": tty if w is a terminal that can move its cursor, plain otherwise. getenv returns TERM,
// NO_COLOR, COLUMNS and LINES; nil means that none is set.
func NewReporter(mode string, w io.Writer, getenv func(string) string) (Reporter, error) {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	if mode == "auto" {
		mode = "plain"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && getenv("TERM") != "dumb" {
			mode = "tty"
		}
	}
	switch mode {
	case "tty":
		return newTTYReporter(w, terminalSize(w, getenv), getenv("NO_COLOR") == ""), nil
	case "plain":
		return newPlainReporter(w), nil
	case "json":
		return newJSONReporter(w), nil
	}
	return nil, fmt.Errorf("progress mode %q: want auto, tty, plain or json", mode)
}

// terminalSize returns a function that queries the terminal at each call, so that it follows a
// resized window.
func terminalSize(w io.Writer, getenv func(string) string) func() (columns, lines int) {
	columns, lines := 80, 24
	fmt.Sscan(getenv("COLUMNS"), &columns)
	fmt.Sscan(getenv("LINES"), &lines)
	return func() (int, int) {
		if f, ok := w.(*os.File); ok {
			if c, l, err := term.GetSize(int(f.Fd())); err == nil && c > 0 && l > 0 {
				return c, l
			}
		}
		return columns, lines
	}
}

// An output writes and keeps the first error.
type output struct {
	w   io.Writer
	err error
}

func (o *output) print(s string) {
	if _, err := io.WriteString(o.w, s); err != nil && o.err == nil {
		o.err = fmt.Errorf("write progress: %w", err)
	}
}

// clean makes text safe for one line of a terminal. Control characters become spaces: a package's
// description may contain them, and they could move the cursor.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
}

// cleanLines is clean for each line of a text.
func cleanLines(s string) []string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return lines
}

// bytesText formats a stage's progress: "12.3 of 45.0 MB, 8.1 MB/s", or "" if it does not count
// bytes.
func bytesText(p State) string {
	if p.Total <= 0 && p.Done <= 0 {
		return ""
	}
	text := FormatSize(p.Done)
	if p.Total > 0 {
		text += " of " + FormatSize(p.Total)
	}
	if p.Rate >= 1 {
		text += ", " + formatSize(p.Rate) + "/s"
	}
	return text
}

// endText returns the line for a stage that has ended, without its name, or "" for other events.
func endText(e Event) string {
	switch e.Type {
	case EventCached:
		if e.Remote != "" {
			return "cached, from " + clean(e.Remote)
		}
		return "cached"
	case EventBuilt:
		text := "done in " + durationText(e.Elapsed)
		if e.Size > 0 {
			text += ", " + FormatSize(e.Size)
		}
		return text
	case EventFailed:
		return "FAILED after " + durationText(e.Elapsed)
	case EventCancelled:
		return "stopped after " + durationText(e.Elapsed)
	}
	return ""
}

// doneText returns the last line of a build.
func doneText(e Event) string {
	counts := fmt.Sprintf("%d built, %d cached", e.Built, e.Cached)
	switch {
	case e.Stopped:
		return fmt.Sprintf("build stopped after %s (%s)", durationText(e.Elapsed), counts)
	case e.Text != "":
		return fmt.Sprintf("build failed after %s (%s)", durationText(e.Elapsed), counts)
	case e.Built == 0:
		return fmt.Sprintf("nothing to do: all %d stages cached (%s)", e.Cached, durationText(e.Elapsed))
	}
	return fmt.Sprintf("build done in %s (%s)", durationText(e.Elapsed), counts)
}
