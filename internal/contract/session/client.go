package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Streams are the caller's ends of a session.
type Streams struct {
	In          io.Reader
	Out, Errors io.Writer
	Sizes       <-chan Size // of the caller's terminal, as it changes; nil: it has none
}

// Run runs a command of the guest over a connection until it has ended, and closes the connection.
// It does not wait for In, of which a read may be under way when it returns. Cancelling ctx hangs
// up.
func Run(ctx context.Context, c *Conn, start Start, s Streams) (Exit, error) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.SendJSON(Begin, start); err != nil {
		return Exit{}, c.lost(ctx, err)
	}
	// A failure to send shows in what is received.
	go func() { _ = c.KeepAlive(ctx) }()
	go func() {
		if c.Copy(Input, s.In) == nil {
			_ = c.Send(InputEnd, nil)
		}
	}()
	go func() {
		for {
			select {
			case size := <-s.Sizes:
				_ = c.SendJSON(Resize, size)
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		f, err := c.Receive()
		if err != nil {
			return Exit{}, c.lost(ctx, err)
		}
		switch f.Kind {
		case Output:
			_, err = s.Out.Write(f.Payload)
		case Errors:
			_, err = s.Errors.Write(f.Payload)
		case End:
			var exit Exit
			if err := json.Unmarshal(f.Payload, &exit); err != nil {
				return exit, fmt.Errorf("the end of a session: %w", err)
			}
			return exit, nil
		default:
			err = fmt.Errorf("%w: kind %d from the guest", ErrFrame, f.Kind)
		}
		if err != nil {
			return Exit{}, err
		}
	}
}

// lost is the error of a session that has no end.
func (c *Conn) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}
