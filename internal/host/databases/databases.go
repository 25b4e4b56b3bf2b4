// Package databases saves the databases of a machine on a phone, and the data of its services, to a
// file of this computer, and restores them from there. The file and the stream are package
// backup's; what the guest does with them is the guest's.
package databases

import (
	"io"
	"time"
)

const (
	// idle is how long a backup or restore may stand still: both sides say every few seconds that
	// they are at work.
	idle = 90 * time.Second
	// often is how often a transfer reports how much has passed.
	often = 5 * time.Second
)

// Passed is called every few seconds of a transfer with the bytes that have passed so far, and how
// long that took.
type Passed func(n int64, took time.Duration)

// A counter counts what is read through it.
type counter struct {
	r      io.Reader
	now    func() time.Time
	passed Passed

	n           int64
	start, last time.Time
}

func count(r io.Reader, now func() time.Time, passed Passed) *counter {
	start := now()
	return &counter{r: r, now: now, passed: passed, start: start, last: start}
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if now := c.now(); now.Sub(c.last) >= often {
		c.last = now
		c.passed(c.n, now.Sub(c.start))
	}
	return n, err
}
