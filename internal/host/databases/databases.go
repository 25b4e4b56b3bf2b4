// Package databases backs up the databases and the services' data of a machine on a phone to a file
// on this computer, and restores them. Package backup defines the file and the stream.
package databases

import (
	"io"
	"time"
)

const (
	// idle is how long a backup or restore may be silent: both sides send keep-alives every few
	// seconds.
	idle = 90 * time.Second
	// often is the interval of a transfer's progress reports.
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
