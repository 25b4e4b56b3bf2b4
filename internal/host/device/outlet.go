package device

import (
	"context"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// An outlet passes a client's output on. It cannot rely on the end of the pipe, which a daemon may
// have inherited: after the client has ended, silence means that all output was received.
type outlet struct {
	to          io.Writer
	read, write *os.File
	gone        atomic.Bool // the client has ended
	done        chan struct{}
}

// newOutlet makes an outlet of one of a client's streams.
func newOutlet(to io.Writer, stream *io.Writer) (*outlet, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	*stream = write
	return &outlet{to: to, read: read, write: write, done: make(chan struct{})}, nil
}

func (o *outlet) close() {
	o.read.Close()
	o.write.Close()
}

// begin is called after the client has started or failed to start.
func (o *outlet) begin() {
	o.write.Close()
	go func() {
		defer close(o.done)
		defer o.read.Close()
		buffer := make([]byte, 64<<10)
		for {
			if o.gone.Load() {
				o.read.SetReadDeadline(time.Now().Add(drain))
			}
			n, err := o.read.Read(buffer)
			if n > 0 {
				if _, err := o.to.Write(buffer[:n]); err != nil {
					return // noted by the writer
				}
			}
			if err != nil {
				return
			}
		}
	}()
}

func (o *outlet) writersGone() {
	o.gone.Store(true)
	o.read.SetReadDeadline(time.Now().Add(drain))
}

// wait waits until everything was passed on, but only briefly after ctx ends.
func (o *outlet) wait(ctx context.Context) bool {
	select {
	case <-o.done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-o.done:
		return true
	case <-time.After(drain):
		return false
	}
}
