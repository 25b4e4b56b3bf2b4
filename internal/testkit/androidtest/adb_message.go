package androidtest

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Commands of adb's transport protocol (packages/modules/adb/protocol.txt): four letters,
// little-endian.
const (
	adbConnect = 0x4e584e43 // CNXN
	adbAuth    = 0x48545541 // AUTH
	adbOpen    = 0x4e45504f // OPEN
	adbOkay    = 0x59414b4f // OKAY
	adbClose   = 0x45534c43 // CLSE
	adbWrite   = 0x45545257 // WRTE
)

const (
	adbVersion    = 0x01000001 // first version without checksum verification
	adbMaxPayload = 256 << 10  // bytes in a message that this end accepts
	adbHeaderSize = 24
)

// An adbMessage is a message of the transport protocol.
type adbMessage struct {
	command, arg0, arg1 uint32
	data                []byte
}

// readADB reads a message. It returns an error if the message is invalid or exceeds adbMaxPayload.
func readADB(r io.Reader) (adbMessage, error) {
	var header [adbHeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return adbMessage{}, err
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(header[4*i:]) }
	m := adbMessage{command: word(0), arg0: word(1), arg1: word(2)}
	if word(5) != ^m.command {
		return adbMessage{}, fmt.Errorf("message %#x: its magic is %#x", m.command, word(5))
	}
	size := word(3)
	if size > adbMaxPayload {
		return adbMessage{}, fmt.Errorf("message %#x: %d bytes are more than the %d that were agreed on", m.command, size, adbMaxPayload)
	}
	m.data = make([]byte, size)
	_, err := io.ReadFull(r, m.data)
	return m, err
}

// append appends the encoded message to b.
func (m adbMessage) append(b []byte) []byte {
	var sum uint32 // protocol.txt calls it a CRC; it is a sum of bytes
	for _, c := range m.data {
		sum += uint32(c)
	}
	for _, word := range []uint32{m.command, m.arg0, m.arg1, uint32(len(m.data)), sum, ^m.command} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return append(b, m.data...)
}
