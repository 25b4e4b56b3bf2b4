package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"
)

// requests are the names of VmRequest (vm_control/src/lib.rs) by the verb that sends them.
var requests = map[string]string{"stop": "Exit", "powerbtn": "Powerbtn", "suspend": "SuspendVcpus", "resume": "ResumeVcpus"}

const controlTimeout = 10 * time.Second

// A control is the socket at which a machine takes requests: packets of JSON, a string each.
type control struct {
	listener *net.UnixListener // nil: the machine has none
}

func listen(path string) (*control, error) {
	if path == "" {
		return &control{}, nil
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("failed to create control server: %w", err)
	}
	return &control{l}, os.Chmod(path, 0o600)
}

// Close removes the socket, as crosvm does when it ends by itself.
func (c *control) Close() error {
	if c.listener == nil {
		return nil
	}
	return c.listener.Close()
}

// A controlled is a machine that takes requests.
type controlled interface {
	Quit(context.Context) error
	PowerButton(context.Context) error
	Pause(context.Context) error
	Resume(context.Context) error
}

func (c *control) serve(vm controlled) {
	if c.listener == nil {
		return
	}
	for {
		conn, err := c.listener.AcceptUnix()
		if err != nil {
			return
		}
		answer(conn, vm)
	}
}

func answer(conn *net.UnixConn, vm controlled) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlTimeout))
	packet := make([]byte, 4096)
	n, err := conn.Read(packet)
	if err != nil {
		return // somebody looked whether the socket is held
	}
	var request string
	if err := json.Unmarshal(packet[:n], &request); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	conn.Write([]byte(`"Ok"`)) // before the deed: the machine may be gone after it
	switch request {
	case requests["stop"]:
		vm.Quit(ctx)
	case requests["powerbtn"]:
		vm.PowerButton(ctx)
	case requests["suspend"]:
		vm.Pause(ctx)
	case requests["resume"]:
		vm.Resume(ctx)
	}
}

// ask sends a request to the machine behind a socket.
func ask(path, request string) error {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("failed to connect to socket at '%s': %w", path, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlTimeout))
	packet, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := conn.Write(packet); err != nil {
		return fmt.Errorf("failed to send request to socket at '%s': %w", path, err)
	}
	reply := make([]byte, 4096)
	if _, err := conn.Read(reply); err != nil {
		return fmt.Errorf("failed to receive an answer from socket at '%s': %w", path, err)
	}
	return nil
}
