package localvm

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/internal/sntp"
)

// A timeServer answers a guest's time requests over a virtio-serial port, without a network.
type timeServer struct {
	conn net.Conn
	done chan struct{}
}

// startTimeServer starts a timeServer and returns it with the socket for the machine.
func startTimeServer(now func() time.Time) (*timeServer, *os.File, error) {
	ours, theirs, err := qemu.SocketPair("time")
	if err != nil {
		return nil, nil, fmt.Errorf("time server: %w", err)
	}
	s := &timeServer{ours, make(chan struct{})}
	go func() {
		defer close(s.done)
		sntp.Server{Now: now}.ServeStream(ours) // it ends with s
	}()
	return s, theirs, nil
}

func (s *timeServer) close() {
	s.conn.Close()
	<-s.done
}
