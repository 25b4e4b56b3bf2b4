// Package databases saves the databases of a machine on a phone to a file of this computer, and restores them from there. The
// file and the stream are package backup's; what the guest does with them is the guest's.
package databases

import (
	"io"
	"time"
)

// idle is how long a backup or restore may stand still: both sides say every few seconds that they are at work.
const idle = 90 * time.Second

// A counter reports how much was read through it.
type counter struct {
	r      io.Reader
	n      int64
	report func(int64)
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.report(c.n)
	return n, err
}
