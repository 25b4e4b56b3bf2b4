package fleet

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/sovereign-sql/sov/internal/host/device"
)

// maxForwarded bounds the concurrent connections: each needs one process here and two on the phone.
const maxForwarded = 64

// Forward forwards the connections that listen accepts to a service of a machine. It returns nil
// when ctx ends. Failed connections are reported on ErrOut. Forward closes listen.
func (s *Site) Forward(ctx context.Context, listen net.Listener, name, service string) error {
	stop := context.AfterFunc(ctx, func() { listen.Close() })
	defer stop()
	defer listen.Close()
	var connections sync.WaitGroup
	defer connections.Wait()
	slots := make(chan struct{}, maxForwarded)
	for {
		conn, err := listen.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		slots <- struct{}{}
		connections.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			c := device.Command{Stdin: conn, Stdout: conn, Live: true, Limit: device.NoLimit}
			if err := s.Runner(ctx, c, "connect", name, "--service", service); err != nil && ctx.Err() == nil {
				fmt.Fprintf(s.ErrOut, "forward: %v\n", err)
			}
		})
	}
}
