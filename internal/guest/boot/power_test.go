//go:build linux

package boot

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestReadEvents(t *testing.T) {
	var stream []byte
	event := func(kind, code uint16, value int32) {
		stream = append(stream, make([]byte, eventSize-8)...)
		stream = binary.NativeEndian.AppendUint16(stream, kind)
		stream = binary.NativeEndian.AppendUint16(stream, code)
		stream = binary.NativeEndian.AppendUint32(stream, uint32(value))
	}
	event(0, 0, 0)
	event(eventKey, keyPower, pressed)
	event(eventKey, keyPower, 0)
	stream = append(stream, 1, 2, 3) // the device disappeared
	presses := 0
	readEvents(bytes.NewReader(stream), func(kind, code uint16, value int32) {
		if kind == eventKey && code == keyPower && value == pressed {
			presses++
		}
	})
	if presses != 1 {
		t.Errorf("%d presses, want 1", presses)
	}
}

func TestReadRequests(t *testing.T) {
	var asked []string
	readRequests(strings.NewReader("noise\n\x00\nshutdown\r\nshutdown now\nshutdown"), func(reason string) { asked = append(asked, reason) })
	if strings.Join(asked, " ") != "console console" {
		t.Errorf("asked %q", asked)
	}
}
