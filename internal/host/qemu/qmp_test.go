package qemu

import (
	"encoding/json"
	"io"
	"net"
	"testing"
)

// TestBlockErrors: the events of a full disk and of a broken one, as QEMU 7.2 sends them.
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
