package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// A ttyReporter keeps a line for each running stage at the bottom of a terminal; everything else
// scrolls by above. Each update is one write. The cursor stays visible below the last line, so a
// program that is killed leaves the terminal usable.
type ttyReporter struct {
	size  func() (columns, lines int)
	color bool

	mu      sync.Mutex
	out     output
	running []State
	drawn   []int // the length of each line of the live display, in columns
	closed  bool
}

func newTTYReporter(w io.Writer, size func() (columns, lines int), color bool) *ttyReporter {
	return &ttyReporter{size: size, color: color, out: output{w: w}}
}

// Escape sequences of ECMA-48.
const (
	escEraseBelow = "\x1b[J"
	escBold       = "1"
	escDim        = "2"
	escRed        = "31"
	escGreen      = "32"
	escYellow     = "33"
)

// Report implements Reporter.
func (t *ttyReporter) Report(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Type {
	case EventBuild:
	case EventStart:
		t.running = append(t.running, State{Stage: e.Stage})
		t.redraw()
	case EventProgress:
		t.update(e.Running)
		t.redraw()
	case EventLog:
		t.lines(e.Stage, "", "", e.Text)
	case EventWait:
		t.lines(e.Stage, "", escDim, e.Text)
	case EventWarning:
		t.lines(e.Stage, "warning: ", escYellow, e.Text)
	case EventDone:
		color := escBold
		if e.Text != "" {
			color = escRed
		}
		t.lines("", "", color, doneText(e))
	default:
		t.remove(e.Stage)
		t.lines(e.Stage, "", endColor(e.Type), endText(e))
	}
}

func endColor(t EventType) string {
	switch t {
	case EventFailed:
		return escRed
	case EventBuilt:
		return escGreen
	}
	return escDim
}

// update updates the state of the stages on the display. A snapshot may still contain a stage whose
// end was reported.
func (t *ttyReporter) update(now []State) {
	for i := range t.running {
		for _, p := range now {
			if p.Stage == t.running[i].Stage {
				t.running[i] = p
			}
		}
	}
}

func (t *ttyReporter) remove(stage string) {
	for i := range t.running {
		if t.running[i].Stage == stage {
			t.running = append(t.running[:i], t.running[i+1:]...)
			return
		}
	}
}

// lines writes text above the live display.
func (t *ttyReporter) lines(stage, prefix, color, text string) {
	columns, _ := t.size()
	name := ""
	if stage != "" {
		name = stage + "  "
	}
	var b strings.Builder
	for _, l := range cleanLines(text) {
		// Only the first part has the name in front, and no line break separates them.
		for i, part := range Wrap(name+prefix+l, columns, len(name)) {
			if rest, ok := strings.CutPrefix(part, name); ok && i == 0 && name != "" {
				b.WriteString(t.paint(escBold, stage) + "  ")
				part = rest
			}
			b.WriteString(t.paint(color, part) + "\n")
		}
	}
	t.frame(b.String())
}

func (t *ttyReporter) redraw() { t.frame("") }

// frame erases the live display, writes the text above and draws the live display again, in one
// write.
func (t *ttyReporter) frame(above string) {
	columns, lines := t.size()
	var b strings.Builder
	b.WriteString(t.erase(columns))
	b.WriteString(above)
	if !t.closed {
		b.WriteString(t.live(columns, lines))
	}
	if b.Len() > 0 {
		t.out.print(b.String())
	}
}

// erase removes the drawn lines. In a window that became narrower the terminal has wrapped them, so
// they take more rows than before.
func (t *ttyReporter) erase(columns int) string {
	rows := 0
	for _, length := range t.drawn {
		rows += max(1, (length+columns-1)/max(columns, 1))
	}
	t.drawn = t.drawn[:0]
	if rows == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r%s", rows, escEraseBelow)
}

// live returns the lines of the live display, no more than fit.
func (t *ttyReporter) live(columns, lines int) string {
	shown := t.running
	more := 0
	if room := max(1, lines-2); len(shown) > room {
		more = len(shown) - room + 1
		shown = shown[:room-1]
	}
	width := 0
	for _, p := range shown {
		width = max(width, utf8.RuneCountInString(p.Stage))
	}
	var b strings.Builder
	add := func(text string) {
		b.WriteString(text + "\n")
		t.drawn = append(t.drawn, utf8.RuneCountInString(text))
	}
	for _, p := range shown {
		// The last column stays empty: some terminals wrap when it is used.
		add(liveLine(p, width, columns-1))
	}
	if more > 0 {
		add(cut(fmt.Sprintf("and %d more", more), columns-1))
	}
	return b.String()
}

const (
	barWidth = 10 // of a progress bar without its brackets
	minStep  = 10 // a step that has fewer columns is left out
)

// liveLine describes a running stage in at most columns columns. To fit, it first cuts the step,
// then leaves out the bar, then the step, and then cuts the rest.
func liveLine(p State, nameWidth, columns int) string {
	name := fmt.Sprintf("%-*s ", nameWidth, p.Stage)
	elapsed := fmt.Sprintf("%6s", clockText(p.Elapsed))
	counts := bytesText(p)
	bars := []string{""}
	if p.Total > 0 {
		bars = []string{barText(p), ""}
	}
	for _, bar := range bars {
		without := utf8.RuneCountInString(name + joinNonEmpty(elapsed, bar, counts))
		step := clean(p.Step)
		if room := columns - without - 2; step != "" && room >= minStep {
			return name + joinNonEmpty(elapsed, bar, cut(step, room), counts)
		}
		if step == "" && without <= columns {
			return name + joinNonEmpty(elapsed, bar, counts)
		}
	}
	return cut(name+joinNonEmpty(elapsed, counts), columns)
}

func joinNonEmpty(parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "  ")
}

// barText draws how much of the total is done.
func barText(p State) string {
	share := min(1, max(0, float64(p.Done)/float64(p.Total)))
	full := int(share * barWidth)
	return fmt.Sprintf("[%s%s] %3.0f%%", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), float64(int(share*100)))
}

// cut shortens text to columns runes.
func cut(text string, columns int) string {
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	if columns <= 1 {
		return ""
	}
	return string([]rune(text)[:columns-1]) + "…"
}

func (t *ttyReporter) paint(color, text string) string {
	if !t.color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// Close implements Reporter. The lines of stages that are still running disappear; what is reported
// later scrolls by as plain lines.
func (t *ttyReporter) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.redraw()
	return t.out.err
}
