package mirror

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60 // ar(5): name 16, mtime 12, uid 6, gid 6, mode 8, size 10, "`\n"
	arMembersMax = 64 // a Debian package has three, and a few more if it is signed
)

// An arMember is one file of an ar archive.
type arMember struct {
	name string
	data *io.SectionReader
}

// readAr returns the members of a Debian package's ar archive. It does not support GNU's tables of
// long names, which deb(5) does not use.
func readAr(r io.ReaderAt, size int64) ([]arMember, error) {
	magic := make([]byte, len(arMagic))
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != arMagic {
		return nil, errors.New("it is not an ar archive")
	}
	var members []arMember
	for offset := int64(len(arMagic)); offset < size; {
		var header [arHeaderSize]byte
		if offset+arHeaderSize > size {
			return nil, fmt.Errorf("the archive ends in a member's header, at byte %d", offset)
		}
		if _, err := r.ReadAt(header[:], offset); err != nil {
			return nil, fmt.Errorf("read the archive's member at byte %d: %w", offset, err)
		}
		length, err := strconv.ParseInt(strings.TrimRight(string(header[48:58]), " "), 10, 64)
		if err != nil || length < 0 || string(header[58:]) != "`\n" {
			return nil, fmt.Errorf("the archive has a malformed member header at byte %d", offset)
		}
		offset += arHeaderSize
		if length > size-offset {
			return nil, fmt.Errorf("the archive ends in a member, %d bytes early", length-(size-offset))
		}
		if len(members) == arMembersMax {
			return nil, fmt.Errorf("the archive has more than %d members", arMembersMax)
		}
		name := strings.TrimSuffix(strings.TrimRight(string(header[:16]), " "), "/")
		members = append(members, arMember{name, io.NewSectionReader(r, offset, length)})
		offset += length + length%2
	}
	return members, nil
}
