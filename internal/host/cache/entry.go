// Package cache implements parts of `sov cache`: parsing limits, reporting entries, and transfers
// with progress. Package store keeps, prunes and verifies results.
package cache

import (
	"time"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// An Entry describes an entry of the store.
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

// Entries describes entries of the store.
func Entries(entries []store.Entry) []Entry {
	list := make([]Entry, 0, len(entries))
	for _, e := range entries {
		list = append(list, Entry{e.Key, e.Stage, e.Memo, e.Created.UTC(), e.Used.UTC(), e.Took.Seconds(), e.Disk, e.Remote})
	}
	return list
}
