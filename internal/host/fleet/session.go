package fleet

import (
	"context"
	"io"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// relayLimit is how long to wait for the runner's reason of a session's end. There is none if the
// connection to the phone broke silently.
const relayLimit = 5 * time.Second

// Session runs a command in the guest of a running machine on the phone.
func (s *Site) Session(ctx context.Context, name string, start session.Start, streams session.Streams) (session.Exit, error) {
	toPhone, in := io.Pipe()
	out, fromPhone := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	relayed := make(chan error, 1)
	go func() {
		err := s.Runner(ctx, device.Command{Stdin: toPhone, Stdout: fromPhone, Live: true, Limit: device.NoLimit}, "session", name)
		toPhone.Close()
		fromPhone.Close()
		relayed <- err
	}()
	conn := session.NewConn(out, in, func() error {
		in.Close()
		return out.Close()
	})
	exit, err := session.Run(ctx, conn, start, streams)
	if err == nil {
		return exit, nil
	}
	select {
	case relayErr := <-relayed:
		// The runner's error says more than the end of the stream.
		if relayErr != nil && ctx.Err() == nil {
			err = relayErr
		}
	case <-ctx.Done():
	case <-time.After(relayLimit):
	}
	return exit, err
}
