package progress

import (
	"encoding/json"
	"io"
	"math"
	"sync"
	"time"
)

// A JSONEvent is one line of JSON progress. Readers must ignore members and events that they do not
// know. What is described here does not change.
//
// Events, in the order in which they come: one "build"; for each stage either "cached", or "start",
// any number of "progress" (at most one a second), "wait", "log" and "warning", and then one of
// "built", "failed" and "cancelled"; one "done". "wait", "log" and "warning" may come at any time.
type JSONEvent struct {
	Time  time.Time `json:"time"`  // RFC 3339, UTC
	Event EventType `json:"event"` // see above
	// Stage is the stage's name; absent in events of the build.
	Stage string `json:"stage,omitempty"`
	Key   string `json:"key,omitempty"` // start, cached, built, failed, cancelled: the stage's key
	// Message is the text of a wait, log or warning.
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`  // failed; done, if the build failed
	Reason  string `json:"reason,omitempty"` // start: why it is not taken from the cache
	Remote  string `json:"remote,omitempty"` // cached: the remote cache that the result came from
	Step    string `json:"step,omitempty"`   // progress: what the stage is doing
	// Done and Total count bytes of a stage in progress; Total is absent if unknown. Rate is in
	// bytes per second.
	Done  int64 `json:"done,omitempty"`
	Total int64 `json:"total,omitempty"`
	Rate  int64 `json:"rate,omitempty"`
	// Seconds is how long the stage (progress, built, failed, cancelled) or the build (done) has
	// taken.
	Seconds float64 `json:"seconds,omitempty"`
	Size    int64   `json:"size,omitempty"`   // built: bytes of all outputs
	Stages  int     `json:"stages,omitempty"` // build: how many stages there are
	Built   int     `json:"built,omitempty"`  // done: how many ran
	Cached  int     `json:"cached,omitempty"` // done: how many were cached
}

// jsonInterval is how often a running stage is reported.
const jsonInterval = time.Second

// A jsonReporter writes one JSON object a line, for programs.
type jsonReporter struct {
	mu    sync.Mutex
	out   output
	shown map[string]time.Duration // as in plainReporter
}

func newJSONReporter(w io.Writer) *jsonReporter {
	return &jsonReporter{out: output{w: w}, shown: map[string]time.Duration{}}
}

// Report implements Reporter.
func (j *jsonReporter) Report(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Type == EventProgress {
		for _, p := range e.Running {
			j.progress(e.Time, p)
		}
		return
	}
	if e.Type == EventStart {
		j.shown[e.Stage] = 0
	}
	line := JSONEvent{
		Time: e.Time, Event: e.Type, Stage: e.Stage, Key: e.Key, Message: e.Text, Reason: e.Reason, Remote: e.Remote,
		Seconds: milliseconds(e.Elapsed), Size: e.Size, Stages: e.Stages, Built: e.Built, Cached: e.Cached,
	}
	if e.Type == EventFailed || e.Type == EventDone {
		line.Message, line.Error = "", e.Text
	}
	j.write(line)
}

func (j *jsonReporter) progress(now time.Time, p State) {
	if p.Elapsed < j.shown[p.Stage]+jsonInterval {
		return
	}
	j.shown[p.Stage] = p.Elapsed.Truncate(jsonInterval)
	j.write(JSONEvent{
		Time: now, Event: EventProgress, Stage: p.Stage, Step: p.Step,
		Done: p.Done, Total: p.Total, Rate: int64(p.Rate), Seconds: milliseconds(p.Elapsed),
	})
}

func (j *jsonReporter) write(line JSONEvent) {
	line.Time = line.Time.UTC()
	b, err := json.Marshal(line)
	if err != nil {
		j.out.err = err
		return
	}
	j.out.print(string(b) + "\n")
}

// milliseconds returns d in seconds, to the millisecond.
func milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// Close implements Reporter.
func (j *jsonReporter) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.err
}
