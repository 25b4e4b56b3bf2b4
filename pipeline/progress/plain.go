package progress

import (
	"io"
	"sync"
	"time"
)

// Intervals between the lines of a running stage: short at first, so that it does not seem to hang,
// then long, so that the log of a long compilation stays short.
const (
	plainInterval     = 5 * time.Second
	plainLongInterval = 30 * time.Second
	plainLong         = time.Minute // from then on
)

// A plainReporter writes lines, for logs.
type plainReporter struct {
	mu  sync.Mutex
	out output
	// shown is the elapsed time of each running stage at its last progress line.
	shown map[string]time.Duration
}

func newPlainReporter(w io.Writer) *plainReporter {
	return &plainReporter{out: output{w: w}, shown: map[string]time.Duration{}}
}

// Report implements Reporter.
func (p *plainReporter) Report(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Type {
	case EventStart:
		p.shown[e.Stage] = 0
		text := "start"
		if e.Reason != "" {
			text += ": " + clean(e.Reason)
		}
		p.line(e.Stage, text)
	case EventProgress:
		for _, s := range e.Running {
			p.progress(s)
		}
	case EventWait, EventLog:
		for _, l := range cleanLines(e.Text) {
			p.line(e.Stage, l)
		}
	case EventWarning:
		for _, l := range cleanLines(e.Text) {
			p.line(e.Stage, "warning: "+l)
		}
	case EventDone:
		p.line("", doneText(e))
	default:
		if text := endText(e); text != "" {
			p.line(e.Stage, text)
		}
	}
}

// progress writes a line about a running stage if one is due.
func (p *plainReporter) progress(s State) {
	interval := plainInterval
	if p.shown[s.Stage] >= plainLong {
		interval = plainLongInterval
	}
	if s.Elapsed < p.shown[s.Stage]+interval {
		return
	}
	p.shown[s.Stage] = s.Elapsed.Truncate(interval)
	text := "running for " + clockText(s.Elapsed)
	if s.Step != "" {
		text = clean(s.Step) + ", " + text
	}
	if b := bytesText(s); b != "" {
		text += ", " + b
	}
	p.line(s.Stage, text)
}

func (p *plainReporter) line(stage, text string) {
	if stage != "" {
		text = stage + ": " + text
	}
	p.out.print(text + "\n")
}

// Close implements Reporter.
func (p *plainReporter) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.err
}
