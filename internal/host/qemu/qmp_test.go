package qemu

import (
	"encoding/json"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// TestBlockErrors: the events of a full disk and of a broken disk, as QEMU 7.2 sends them.
func TestBlockErrors(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		answers := json.NewDecoder(theirs)
		io.WriteString(theirs, `{"QMP": {"version": {}, "capabilities": []}}`)
		var command struct{ ID int }
		if answers.Decode(&command) == nil {
			json.NewEncoder(theirs).Encode(map[string]any{"return": map[string]any{}, "id": command.ID})
		}
		io.WriteString(theirs, `
{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_IO_ERROR", "data": {"device": "disk1", "nospace": true, "node-name": "#block345", "reason": "No space left on device", "operation": "write", "action": "stop"}}
{"timestamp": {"seconds": 1, "microseconds": 3}, "event": "STOP"}
{"timestamp": {"seconds": 1, "microseconds": 4}, "event": "BLOCK_IO_ERROR", "data": {"device": "disk1", "nospace": false, "node-name": "#block345", "reason": "Input/output error", "operation": "read", "action": "report"}}
`)
	}()
	m, err := connect(ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []BlockError{
		{"disk1", "write", "No space left on device", true},
		{"disk1", "read", "Input/output error", false},
	} {
		if got := <-m.blockErrors; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// TestBroken: a machine that QEMU stopped for an internal error is ended. A paused machine is not
// ended. The answers are those of QEMU 7.2.
func TestBroken(t *testing.T) {
	for status, want := range map[string]bool{"internal-error": true, "paused": false} {
		ours, theirs := net.Pipe()
		defer time.AfterFunc(10*time.Second, func() { theirs.Close() }).Stop() // otherwise it waits for a command forever
		defer theirs.Close()
		commands := make(chan string, 8)
		go func() {
			defer close(commands)
			io.WriteString(theirs, `{"QMP": {"version": {}, "capabilities": []}}`)
			decoder, encoder := json.NewDecoder(theirs), json.NewEncoder(theirs)
			for {
				var command struct {
					Execute string
					ID      int
				}
				if decoder.Decode(&command) != nil {
					return
				}
				commands <- command.Execute
				answer := map[string]any{}
				if command.Execute == "query-status" {
					answer["status"] = status
				}
				encoder.Encode(map[string]any{"return": answer, "id": command.ID})
				if command.Execute == "qmp_capabilities" {
					io.WriteString(theirs, `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}`)
				}
				if command.Execute == "quit" || command.Execute == "last" {
					theirs.Close()
				}
			}
		}()
		m, err := connect(ours)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for command := range commands {
			if said = append(said, command); command == "query-status" && !want {
				go m.execute(t.Context(), "last", nil)
			}
		}
		<-m.closed
		if got := slices.Contains(said, "quit"); got != want || m.isBroken() != want {
			t.Errorf("of a machine that is in state %s: commands %q, broken %t", status, said, m.isBroken())
		}
	}
}
