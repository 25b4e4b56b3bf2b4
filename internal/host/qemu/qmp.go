package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A monitor is a QMP connection (docs/interop/qmp-spec.rst of QEMU): commands and their responses,
// one at a time, with events in between.
type monitor struct {
	conn   net.Conn
	turn   sync.Mutex // one command at a time
	closed chan struct{}

	mu     sync.Mutex
	id     int          // of the last command
	answer chan message // receives its response
	reason string       // of the SHUTDOWN event

	panicked bool // there was a GUEST_PANICKED event
	broken   bool // the machine was stopped by an internal error

	blockErrors chan BlockError
}

// A message is any object that QEMU sends.
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Description string `json:"desc"`
	} `json:"error"`
	ID    int    `json:"id"`
	Event string `json:"event"`
	Data  struct {
		Reason    string `json:"reason"`
		Device    string `json:"device"`
		Operation string `json:"operation"`
		Action    string `json:"action"`
	} `json:"data"`
}

// A BlockError is a disk request of the guest that failed on this computer (BLOCK_IO_ERROR in
// qapi/block-core.json of QEMU).
type BlockError struct {
	Disk      string // such as "disk1"
	Operation string // "read" or "write"
	Reason    string // QEMU's error message
	// Stopped is that the machine was paused because this computer's disk is full: the request is
	// retried when the machine is resumed. Otherwise the guest got an I/O error.
	Stopped bool
}

// keptBlockErrors is the buffer of the channel of errors; further errors are dropped.
const keptBlockErrors = 64

// greetingTimeout bounds the time from QEMU's start to its QMP greeting. It takes some 50 ms on an
// idle machine.
const greetingTimeout = 30 * time.Second

func connect(conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, closed: make(chan struct{}), blockErrors: make(chan BlockError, keptBlockErrors)}
	greeting := make(chan error, 1)
	go m.read(greeting)
	select {
	case err := <-greeting:
		if err != nil {
			return nil, err
		}
	case <-time.After(greetingTimeout):
		conn.Close()
		return nil, fmt.Errorf("QEMU did not answer within %v", greetingTimeout)
	}
	ctx, cancel := context.WithTimeout(context.Background(), greetingTimeout)
	defer cancel()
	_, err := m.execute(ctx, "qmp_capabilities", nil)
	return m, err
}

func (m *monitor) read(greeting chan<- error) {
	defer close(m.closed)
	defer m.conn.Close()
	decoder := json.NewDecoder(m.conn)
	var hello message
	err := decoder.Decode(&hello)
	if err == nil && hello.Greeting == nil {
		err = errors.New("QEMU's first word was not a QMP greeting")
	}
	greeting <- err
	if err != nil {
		return
	}
	for {
		var next message
		if err := decoder.Decode(&next); err != nil {
			return
		}
		m.mu.Lock()
		switch {
		case next.Event == "SHUTDOWN":
			m.reason = next.Data.Reason
		case next.Event == "GUEST_PANICKED":
			m.panicked = true
		case next.Event == "STOP":
			go m.endBroken()
		case next.Event == "BLOCK_IO_ERROR":
			e := BlockError{next.Data.Device, next.Data.Operation, next.Data.Reason, next.Data.Action == "stop"}
			select {
			case m.blockErrors <- e:
			default:
			}
		case next.Event == "" && next.ID == m.id: // otherwise the caller has timed out
			m.answer <- next
		}
		m.mu.Unlock()
	}
}

// shutdownReason returns QEMU's ShutdownCause: "guest-shutdown", "guest-reset", "guest-panic",
// "host-qmp-quit", …
func (m *monitor) shutdownReason() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// endBroken ends a machine that QEMU has stopped because of an internal error, such as an
// instruction that KVM cannot run. It cannot be resumed, and QEMU does not exit.
func (m *monitor) endBroken() {
	ctx, cancel := context.WithTimeout(context.Background(), greetingTimeout)
	defer cancel()
	answer, err := m.execute(ctx, "query-status", nil)
	var now struct {
		Status string `json:"status"` // RunState of qapi/run-state.json
	}
	if err != nil || json.Unmarshal(answer, &now) != nil || now.Status != "internal-error" {
		return
	}
	m.mu.Lock()
	m.broken = true
	m.mu.Unlock()
	m.execute(ctx, "quit", nil) // one that has ended does not answer
}

func (m *monitor) isBroken() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken
}

var errEnded = errors.New("the machine has ended")

func (m *monitor) execute(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.mu.Lock()
	m.id++
	answered := make(chan message, 1)
	m.answer = answered
	request := map[string]any{"execute": command, "id": m.id}
	m.mu.Unlock()
	if arguments != nil {
		request["arguments"] = arguments
	}
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	select {
	case answer := <-answered:
		if answer.Error != nil {
			return nil, fmt.Errorf("QMP %s: %s", command, answer.Error.Description)
		}
		return answer.Return, nil
	case <-m.closed:
		return nil, fmt.Errorf("QMP %s: %w", command, errEnded)
	case <-ctx.Done():
		return nil, fmt.Errorf("QMP %s: %w", command, ctx.Err())
	}
}

// human runs a command of QEMU's text monitor, for functions that QMP does not have.
func (m *monitor) human(ctx context.Context, line string) (string, error) {
	answer, err := m.execute(ctx, "human-monitor-command", map[string]string{"command-line": line})
	if err != nil {
		return "", err
	}
	var text string
	if err := json.Unmarshal(answer, &text); err != nil {
		return "", fmt.Errorf("QMP %q: %w", line, err)
	}
	return text, nil
}
