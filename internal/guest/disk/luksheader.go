//go:build linux

package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// The binary header of LUKS2 (LUKS2 On-Disk Format Specification, section 2.1), integers
// big-endian: the copies' magic numbers and positions, and the offsets of the fields.
const (
	luksMagicFirst, luksMagicSecond = "LUKS\xba\xbe", "SKUL\xba\xbe"
	luksSecondOffset                = 0x4000
	luksVersionAt                   = 6  // uint16
	luksSizeAt                      = 8  // uint64, of this header with the JSON behind it
	luksSequenceAt                  = 16 // uint64, higher in the newer copy
	luksLabelAt, luksLabelLength    = 24, 48
	luksHashAt, luksHashLength      = 72, 32 // name of the checksum's hash
	luksChecksumAt                  = 448    // in 64 bytes, which count as zeros for it
	luksChecksumLength              = 64
	luksBinarySize                  = 4096
)

// luksLabel returns the label of the newest intact header copy on the device, and whether the
// device has a header. A header without an intact copy is an error.
func luksLabel(device string) (label string, found bool, err error) {
	var newest uint64
	whole := false
	for _, at := range []struct {
		magic  string
		offset int64
	}{{luksMagicFirst, 0}, {luksMagicSecond, luksSecondOffset}} {
		binaryPart, err := readAt(device, at.offset, luksBinarySize)
		if err != nil || !strings.HasPrefix(binaryPart, at.magic) {
			continue
		}
		found = true
		size := binary.BigEndian.Uint64([]byte(binaryPart[luksSizeAt:]))
		if binary.BigEndian.Uint16([]byte(binaryPart[luksVersionAt:])) != 2 || size < luksBinarySize || size > luksSecondOffset {
			continue
		}
		text, err := readAt(device, at.offset, int(size))
		if err != nil || !luksWhole([]byte(text)) {
			continue
		}
		if sequence := binary.BigEndian.Uint64([]byte(text[luksSequenceAt:])); !whole || sequence > newest {
			label, _, _ = strings.Cut(text[luksLabelAt:luksLabelAt+luksLabelLength], "\x00")
			newest, whole = sequence, true
		}
	}
	if found && !whole {
		return "", true, fmt.Errorf("%s: both copies of its LUKS2 header are damaged: no key can open it without them: restore a backup", device)
	}
	return label, found, nil
}

// luksWhole reports whether a header matches its checksum.
func luksWhole(header []byte) bool {
	hash, _, _ := bytes.Cut(header[luksHashAt:luksHashAt+luksHashLength], []byte{0})
	if string(hash) != "sha256" {
		return false
	}
	want := slices.Clone(header[luksChecksumAt : luksChecksumAt+sha256.Size])
	clear(header[luksChecksumAt : luksChecksumAt+luksChecksumLength])
	sum := sha256.Sum256(header)
	return bytes.Equal(sum[:], want)
}
