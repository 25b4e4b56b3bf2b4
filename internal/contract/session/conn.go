package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Patience is how long a peer may be silent. It covers a phone that sleeps for a moment.
	Patience = time.Minute
	// aliveInterval is how often each side says that it is there.
	aliveInterval = 15 * time.Second
)

// ErrLost is wrapped by the error about a connection that ended before the command did.
var ErrLost = errors.New("the connection to the guest was lost")

// A Conn carries frames over a connection.
type Conn struct {
	r        io.Reader
	w        io.Writer
	close    func() error
	patience time.Duration

	writing sync.Mutex
	silent  atomic.Bool // the peer was, for too long
}

// NewConn returns a Conn that reads r and writes w. Close calls end, which must make both fail.
func NewConn(r io.Reader, w io.Writer, end func() error) *Conn {
	return &Conn{r: r, w: w, close: sync.OnceValue(end), patience: Patience}
}

// Close ends the connection. It may be called at any time, and more than once.
func (c *Conn) Close() error { return c.close() }

// Send sends a frame. Several goroutines may call it.
func (c *Conn) Send(kind Kind, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrFrame, len(payload), MaxPayload)
	}
	text := Frame{kind, payload}.append(make([]byte, 0, headerSize+len(payload)))
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.w.Write(text)
	return err
}

// SendJSON sends a frame whose payload is v in JSON.
func (c *Conn) SendJSON(kind Kind, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Send(kind, text)
}

// Receive returns the next frame that says something. It closes the connection of a peer that has
// been silent for Patience. Time without a call of Receive does not count.
func (c *Conn) Receive() (Frame, error) {
	for {
		timer := time.AfterFunc(c.patience, func() {
			c.silent.Store(true)
			c.Close()
		})
		f, err := readFrame(c.r)
		timer.Stop()
		if err != nil && c.silent.Load() {
			err = fmt.Errorf("nothing has come for %v", c.patience)
		}
		if err != nil || f.Kind != Alive {
			return f, err
		}
	}
}

// KeepAlive sends Alive frames until ctx ends or one cannot be sent, which is an error.
func (c *Conn) KeepAlive(ctx context.Context) error {
	tick := time.NewTicker(aliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := c.Send(Alive, nil); err != nil {
				return err
			}
		}
	}
}

// Copy sends what r yields as frames of a kind until it ends. A source's own error ends it as its
// end does. The error is about sending.
func (c *Conn) Copy(kind Kind, r io.Reader) error {
	buffer := make([]byte, MaxPayload/2)
	for {
		n, readErr := r.Read(buffer)
		if n > 0 {
			if err := c.Send(kind, buffer[:n]); err != nil {
				return err
			}
		}
		if readErr != nil {
			return nil
		}
	}
}
