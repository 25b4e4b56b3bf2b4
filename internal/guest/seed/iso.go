package seed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// ISO 9660 (ECMA-119): the first sector of volume descriptors, and limits of what is read.
const (
	isoSector      = 2048
	isoDescriptors = 16
	maxDescriptors = 32
	maxDirectory   = 64 << 10
	maxFile        = 256 << 10
)

// errNotISO says that a disk does not hold ISO 9660.
var errNotISO = errors.New("not ISO 9660")

// readISO returns the volume's label, and the named files of the root directory. It uses Joliet's
// names if the disk has them, else Rock Ridge's, else ISO's own, with an underscore for a dash.
func readISO(r io.ReaderAt, names ...string) (label string, files map[string][]byte, err error) {
	primary, joliet, err := isoVolumes(r)
	if err != nil {
		return "", nil, err
	}
	volume := primary
	if joliet != nil {
		volume = joliet
	}
	files = map[string][]byte{}
	err = isoDirectory(r, volume[156:190], joliet != nil, func(name string, at, size int64) error {
		for _, want := range names {
			if name != want && name != strings.ToUpper(strings.ReplaceAll(want, "-", "_")) {
				continue
			}
			content, err := isoRead(r, at, size, maxFile)
			if err != nil {
				return fmt.Errorf("%s: %w", want, err)
			}
			files[want] = content
		}
		return nil
	})
	return strings.TrimSpace(string(primary[40:72])), files, err // ECMA-119, 8.4.7
}

// isoVolumes returns the primary volume descriptor and Joliet's, or nil if the disk does not have
// one.
func isoVolumes(r io.ReaderAt) (primary, joliet []byte, err error) {
	for i := range int64(maxDescriptors) {
		b := make([]byte, isoSector)
		if n, err := r.ReadAt(b, (isoDescriptors+i)*isoSector); n < len(b) {
			return nil, nil, errors.Join(errNotISO, err)
		}
		if string(b[1:6]) != "CD001" {
			return nil, nil, errNotISO
		}
		switch b[0] {
		case 1:
			primary = b
		case 2:
			// Escape sequences of UCS-2 in its three levels (Joliet Specification, section 4).
			if escape := string(b[88:91]); escape == "%/@" || escape == "%/C" || escape == "%/E" {
				joliet = b
			}
		case 255:
			if primary == nil {
				return nil, nil, errNotISO
			}
			return primary, joliet, nil
		}
	}
	return nil, nil, errNotISO
}

// isoRead reads an extent.
func isoRead(r io.ReaderAt, at, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are read", size, limit)
	}
	b := make([]byte, size)
	if n, err := r.ReadAt(b, at); n < len(b) {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return b, nil
}

// isoDirectory calls fn for each file of the directory with the given record (ECMA-119, 9.1).
func isoDirectory(r io.ReaderAt, record []byte, wide bool, fn func(name string, at, size int64) error) error {
	at, size := isoExtent(record)
	b, err := isoRead(r, at, size, maxDirectory)
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 { // records do not cross sectors
			rest := len(b) % isoSector
			if rest == 0 {
				rest = isoSector
			}
			b = b[min(rest, len(b)):]
			continue
		}
		if n < 34 || n > len(b) || 33+int(b[32]) > n {
			return errors.New("root directory: damaged")
		}
		record := b[:n]
		b = b[n:]
		const isDirectory = 2
		if record[25]&isDirectory != 0 {
			continue
		}
		at, size := isoExtent(record)
		if err := fn(isoName(record, wide), at, size); err != nil {
			return err
		}
	}
	return nil
}

func isoExtent(record []byte) (at, size int64) {
	return int64(binary.LittleEndian.Uint32(record[2:])) * isoSector, int64(binary.LittleEndian.Uint32(record[10:]))
}

// isoName returns a file's name without its version.
func isoName(record []byte, wide bool) string {
	raw := record[33 : 33+int(record[32])]
	if wide {
		var units []uint16
		for ; len(raw) >= 2; raw = raw[2:] {
			units = append(units, binary.BigEndian.Uint16(raw))
		}
		raw = []byte(string(utf16.Decode(units)))
	} else if name := rockRidge(record[33+int(record[32]):]); name != "" {
		return name
	}
	name, _, _ := strings.Cut(string(raw), ";")
	return strings.TrimSuffix(name, ".")
}

// rockRidge returns the name in a record's system use fields (IEEE P1282, 4.1.4), or "". The fields
// are aligned to an even offset, so a padding byte follows a name of even length.
func rockRidge(fields []byte) string {
	if len(fields)%2 == 1 {
		fields = fields[1:]
	}
	var name bytes.Buffer
	for len(fields) >= 4 {
		n := int(fields[2])
		if n < 4 || n > len(fields) {
			break
		}
		if string(fields[:2]) == "NM" && n >= 5 {
			name.Write(fields[5:n])
		}
		fields = fields[n:]
	}
	return name.String()
}
