package progress

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, got)
	}
}

// story returns the events of a build, with everything that can be reported.
func story() []Event {
	start := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration, e Event) Event { e.Time = start.Add(d); return e }
	kernel := func(d time.Duration, step string) State {
		return State{Stage: "kernel", Step: step, Elapsed: d}
	}
	packages := func(d time.Duration, done int64) State {
		return State{Stage: "packages", Step: "fetch postgresql17-17.5-r0", Done: done, Total: 52_000_000, Rate: 8.1e6, Elapsed: d}
	}
	const s, key = time.Second, "3b1f4f0d2a"
	return []Event{
		at(0, Event{Type: EventBuild, Stages: 5}),
		at(0, Event{Type: EventCached, Stage: "base", Key: key}),
		at(0, Event{Type: EventWarning, Stage: "base", Text: "the image is two years old"}),
		at(0, Event{Type: EventStart, Stage: "kernel", Key: key, Reason: "1 input changed"}),
		at(0, Event{Type: EventStart, Stage: "packages", Key: key, Reason: "not in the cache yet"}),
		at(s/10, Event{Type: EventProgress, Running: []State{kernel(s/10, ""), packages(s/10, 0)}}),
		at(2*s, Event{Type: EventProgress, Running: []State{kernel(2*s, "configure"), packages(2*s, 15_300_000)}}),
		at(3*s, Event{Type: EventLog, Stage: "packages", Text: "mirror is slow\x1b[2J\a\ntrying the next\r\n"}),
		at(6*s, Event{Type: EventProgress, Running: []State{kernel(6*s, "compile"), packages(6*s, 45_000_000)}}),
		at(7*s, Event{Type: EventWarning, Stage: "packages", Text: "scripts of postgresql17 are not run"}),
		at(7*s, Event{Type: EventBuilt, Stage: "packages", Key: key, Elapsed: 7 * s, Size: 171_000_000}),
		at(7*s, Event{Type: EventWait, Stage: "tailscale", Text: "waiting for process 4711, which is making the same"}),
		at(8*s, Event{Type: EventStart, Stage: "rootfs", Key: key}),
		at(75*s, Event{Type: EventProgress, Running: []State{kernel(75*s, "compile"), {Stage: "rootfs", Done: 9_000, Rate: 300, Elapsed: 67 * s}}}),
		at(76*s, Event{Type: EventFailed, Stage: "kernel", Key: key, Elapsed: 76 * s, Text: "make: exit status 2"}),
		at(76*s, Event{Type: EventCancelled, Stage: "rootfs", Key: key, Elapsed: 68 * s}),
		at(76*s, Event{Type: EventDone, Elapsed: 76 * s, Built: 1, Cached: 1, Text: "stage kernel: make: exit status 2"}),
	}
}

func TestLineReporters(t *testing.T) {
	for _, mode := range []string{"plain", "json"} {
		t.Run(mode, func(t *testing.T) {
			var out strings.Builder
			r, err := NewReporter(mode, &out, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range story() {
				r.Report(e)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			compareGolden(t, "progress."+mode, out.String())
		})
	}
}

// TestPlainLinesGetRarer reports a compilation of ten minutes: a line every five seconds at first,
// and every thirty seconds after a minute.
func TestPlainLinesGetRarer(t *testing.T) {
	var out strings.Builder
	r := newPlainReporter(&out)
	r.Report(Event{Type: EventStart, Stage: "kernel"})
	for elapsed := time.Duration(0); elapsed <= 10*time.Minute; elapsed += progressInterval {
		r.Report(Event{Type: EventProgress, Running: []State{{Stage: "kernel", Elapsed: elapsed}}})
	}
	if got, want := strings.Count(out.String(), "running for"), 60/5+9*60/30; got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, out.String())
	}
}

// TestTTYReporter compares the screen after each event.
func TestTTYReporter(t *testing.T) {
	for _, columns := range []int{120, 60, 20} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			screens := map[bool]string{}
			for _, color := range []bool{false, true} {
				term := &fakeTerminal{t: t, columns: columns, rows: 24}
				r := newTTYReporter(term, term.size, color)
				for _, e := range story() {
					r.Report(e)
					screens[color] += fmt.Sprintf("--- %s %s\n%s", e.Type, e.Stage, term.text())
					for _, line := range term.lines {
						if width(line) > columns {
							t.Errorf("wider than %d columns: %q", columns, line)
						}
					}
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			if plain := shownColor.ReplaceAllString(screens[true], ""); plain != screens[false] {
				t.Errorf("the screens differ in more than colours:\n%s", plain)
			}
			compareGolden(t, fmt.Sprintf("progress.tty%d", columns), screens[false])
			compareGolden(t, fmt.Sprintf("progress.tty%d.color", columns), screens[true])
		})
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		line            string
		columns, indent int
		want            string
	}{
		{"short", 60, 2, "short"},
		{"the width is not known", 0, 2, "the width is not known"},
		{"one two three four five six", 20, 2, "one two three four|  five six"},
		{"exactly twenty runes", 20, 2, "exactly twenty runes"},
		{"key        " + strings.Repeat("v", 30), 24, 11, "key|           vvvvvvvvvvvvv|           vvvvvvvvvvvvv|           vvvv"},
		{strings.Repeat("x", 25), 20, 0, strings.Repeat("x", 20) + "|xxxxx"},
		{"äöü äöü äöü äöü äöü äöü", 20, 0, "äöü äöü äöü äöü äöü|äöü"},
		{"narrow window", 5, 3, "narro|w win|dow"},
	} {
		if got := strings.Join(Wrap(c.line, c.columns, c.indent), "|"); got != c.want {
			t.Errorf("%q in %d columns: %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}

func TestTTYResize(t *testing.T) {
	term := &fakeTerminal{t: t, columns: 90, rows: 24}
	r := newTTYReporter(term, term.size, false)
	r.Report(Event{Type: EventLog, Text: "a line above"})
	r.Report(Event{Type: EventStart, Stage: "kernel"})
	r.Report(Event{Type: EventStart, Stage: "rootfs"})
	running := []State{
		{Stage: "kernel", Step: strings.Repeat("compile ", 7), Total: 100, Done: 50, Elapsed: time.Second},
		{Stage: "rootfs", Step: "lay out", Elapsed: time.Second}}
	for _, columns := range []int{90, 40, 13, 60, 90, 5, 90} {
		term.columns = columns
		r.Report(Event{Type: EventProgress, Running: running})
		if len(term.lines) != 3 {
			t.Errorf("at %d columns the screen is torn:\n%s", columns, term.text())
		}
	}
	r.Close()
	if got := term.text(); got != "a line above\n" {
		t.Errorf("after Close:\n%s", got)
	}
	r.Report(Event{Type: EventProgress, Running: running})
	r.Report(Event{Type: EventLog, Text: "late"})
	if got := term.text(); got != "a line above\nlate\n" {
		t.Errorf("after Close and more events:\n%s", got)
	}
}

func TestTTYFewRows(t *testing.T) {
	term := &fakeTerminal{t: t, columns: 80, rows: 6}
	r := newTTYReporter(term, term.size, false)
	for i := range 10 {
		r.Report(Event{Type: EventStart, Stage: fmt.Sprint("stage", i)})
	}
	if len(term.lines) != 4 || !strings.Contains(term.text(), "and 7 more\n") {
		t.Errorf("ten stages on six rows:\n%s", term.text())
	}
}

func TestNoColor(t *testing.T) {
	for _, noColor := range []string{"", "1"} {
		var out strings.Builder
		r, err := NewReporter("tty", &out, func(name string) string {
			return map[string]string{"NO_COLOR": noColor, "COLUMNS": "60"}[name]
		})
		if err != nil {
			t.Fatal(err)
		}
		r.Report(Event{Type: EventWarning, Stage: "a", Text: "x"})
		if got := strings.Contains(out.String(), "\x1b["); got != (noColor == "") {
			t.Errorf("NO_COLOR=%q: %q", noColor, out.String())
		}
	}
}

func TestNewReporterModes(t *testing.T) {
	r, err := NewReporter("auto", &strings.Builder{}, nil)
	if _, ok := r.(*plainReporter); !ok || err != nil {
		t.Errorf("auto on what is no terminal: %T, %v", r, err)
	}
	if _, err := NewReporter("loud", os.Stdout, nil); err == nil || !strings.Contains(err.Error(), "want auto, tty, plain or json") {
		t.Errorf("error %v", err)
	}
}

func TestReporterReportsWriteErrors(t *testing.T) {
	for _, mode := range []string{"tty", "plain", "json"} {
		r, err := NewReporter(mode, brokenPipe{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Report(Event{Type: EventLog, Text: "x"})
		if err := r.Close(); !errors.Is(err, errBrokenPipe) {
			t.Errorf("%s: error %v", mode, err)
		}
	}
}

type brokenPipe struct{}

var errBrokenPipe = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBrokenPipe }

func TestDoneText(t *testing.T) {
	for _, c := range []struct {
		event Event
		want  string
	}{
		{Event{Elapsed: time.Second, Built: 2, Cached: 7}, "build done in 1.00s (2 built, 7 cached)"},
		{Event{Elapsed: time.Second / 100, Cached: 9}, "nothing to do: all 9 stages cached (0.01s)"},
		{Event{Elapsed: time.Minute, Built: 1, Text: "boom"}, "build failed after 1m00s (1 built, 0 cached)"},
		{Event{Elapsed: time.Minute, Built: 1, Text: "boom", Stopped: true}, "build stopped after 1m00s (1 built, 0 cached)"},
	} {
		if got := doneText(c.event); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestTextForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 99_949: "99.9 kB", 99_951: "100 kB", 999_499: "999 kB",
		999_501: "1.0 MB", 52_000_000: "52.0 MB", 4 << 30: "4.3 GB", 5e12: "5.0 TB",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.00s", 310 * time.Millisecond: "0.31s", 9999 * time.Millisecond: "10.0s", 59990 * time.Millisecond: "1m00s",
		185 * time.Second: "3m05s", 3*time.Hour + 125*time.Second: "3h02m",
	} {
		if got := durationText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// A fakeTerminal keeps the lines of a terminal of unlimited height. It supports text that ends in
// line feeds, colors, "up n rows", carriage return and "erase below". A line wider than the window
// takes several rows.
type fakeTerminal struct {
	t             *testing.T
	columns, rows int
	lines         []string
}

func (f *fakeTerminal) size() (int, int) { return f.columns, f.rows }
func (f *fakeTerminal) text() string {
	return strings.Join(append(f.lines, ""), "\n")
}

var (
	upAndErase = regexp.MustCompile(`^\x1b\[(\d+)A\r\x1b\[J`)
	sgr        = regexp.MustCompile(`\x1b\[(\d+)m`)
	shownColor = regexp.MustCompile(`⟨\d+⟩`) // as in fakeTerminal.lines
)

// width returns the number of columns that a line takes.
func width(line string) int { return utf8.RuneCountInString(shownColor.ReplaceAllString(line, "")) }

func (f *fakeTerminal) Write(p []byte) (int, error) {
	text := string(p)
	if m := upAndErase.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		f.eraseRows(n)
		text = text[len(m[0]):]
	}
	text = sgr.ReplaceAllString(text, "⟨$1⟩")
	if strings.ContainsAny(text, "\x1b\r\a\x00") {
		f.t.Errorf("stray control characters: %q", text)
	}
	if text == "" {
		return len(p), nil
	}
	if !strings.HasSuffix(text, "\n") {
		f.t.Errorf("the cursor stays within a line: %q", text)
	}
	f.lines = append(f.lines, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	return len(p), nil
}

// eraseRows removes the last n rows at the window's present width.
func (f *fakeTerminal) eraseRows(n int) {
	for n > 0 && len(f.lines) > 0 {
		last := f.lines[len(f.lines)-1]
		rows := max(1, (width(last)+f.columns-1)/f.columns)
		f.lines = f.lines[:len(f.lines)-1]
		if rows > n {
			f.lines = append(f.lines, string([]rune(last)[:(rows-n)*f.columns]))
		}
		n -= rows
	}
	if n > 0 {
		f.t.Errorf("the cursor went %d rows above the first line", n)
	}
}
