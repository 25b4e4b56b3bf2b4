package progress

import "time"

// An EventType says what an Event is about. The values are part of the JSON output.
type EventType string

// The events of a build. Each stage has at most one Start and exactly one of Cached, Built, Failed
// and Cancelled, or none if it was never reached. If a remote cache lacks a blob that it listed,
// stages start again.
const (
	EventBuild     EventType = "build"     // a build begins; Stages
	EventStart     EventType = "start"     // a stage runs; Reason
	EventProgress  EventType = "progress"  // at short intervals while something runs; Running
	EventWait      EventType = "wait"      // Text names what the build waits for
	EventLog       EventType = "log"       // Text is a line to show
	EventWarning   EventType = "warning"   // Text is something the user should know
	EventCached    EventType = "cached"    // a stage's result was in the cache; Remote
	EventBuilt     EventType = "built"     // a stage ran; Elapsed, Size
	EventFailed    EventType = "failed"    // a stage failed; Text is the error, Elapsed
	EventCancelled EventType = "cancelled" // a stage was stopped; Elapsed
	EventDone      EventType = "done"      // the build has ended; Elapsed, Built, Cached, Text if it failed, Stopped
)

// An Event is one thing that happened. Fields that its type does not mention are zero.
type Event struct {
	Time    time.Time
	Type    EventType
	Stage   string // "" if the event is about the build as a whole
	Key     string
	Text    string
	Reason  string        // why a stage was not taken from the cache
	Remote  string        // the remote cache that a stage's result came from; "" if it was made here
	Elapsed time.Duration // since the stage or build began
	Size    int64         // bytes of all outputs of a stage
	Stages  int
	Built   int     // stages that ran
	Cached  int     // stages taken from the cache
	Stopped bool    // the build failed because it was interrupted
	Running []State // every stage that runs, in the order they started
}

// A State says how far a running stage is.
type State struct {
	Stage   string
	Step    string        // what it is doing; may be ""
	Done    int64         // bytes
	Total   int64         // bytes; 0 if unknown
	Rate    float64       // bytes per second, over the last seconds
	Elapsed time.Duration // since the stage began
}
