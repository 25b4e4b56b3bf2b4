package cache

import (
	"time"

	"github.com/sovereign-sql/sov/pipeline"
)

// Entry is one cache entry as `--json` prints it.
type Entry struct {
	Key     string    `json:"key"`
	Stage   string    `json:"stage"`
	Memo    string    `json:"memo,omitempty"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
	Seconds float64   `json:"seconds"`          // that it took to make
	Disk    int64     `json:"disk"`             // bytes
	Remote  string    `json:"remote,omitempty"` // the remote cache it came from
}

func NewEntry(e pipeline.Entry) Entry {
	return Entry{e.Key, e.Stage, e.Memo, e.Created.UTC(), e.Used.UTC(), e.Took.Seconds(), e.Disk, e.Remote}
}
