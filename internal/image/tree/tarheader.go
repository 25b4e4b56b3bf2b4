package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Sizes of the tar format, and accepted limits.
const (
	tarBlock = 512
	// maxTarRecords is the largest PAX record block or GNU long name, which are kept in memory;
	// archive/tar of the Go standard library has the same limit.
	maxTarRecords = 1 << 20
	// maxSparseExtents limits the map of one sparse file.
	maxSparseExtents = 1 << 20
	// tarWindow is how many bytes are read at once to find headers. Several small files fit into
	// one window.
	tarWindow = 8 << 10
)

// Type flags of tar entries (pax(1), "ustar Interchange Format", and GNU tar's
// "Basic Tar Format").
const (
	tarRegOld    = 0
	tarReg       = '0'
	tarLink      = '1'
	tarSymlink   = '2'
	tarChar      = '3'
	tarBlockDev  = '4'
	tarDir       = '5'
	tarFIFO      = '6'
	tarCont      = '7'
	tarPAX       = 'x'
	tarPAXGlobal = 'g'
	tarLongName  = 'L'
	tarLongLink  = 'K'
	tarSparse    = 'S'
)

// Package archive/tar cannot be used: it does not expose the offsets of contents in the archive and
// the maps of sparse files, which are needed here.

// A tarEntry is one entry of a tar with all its extension records applied.
type tarEntry struct {
	flag         byte
	name, link   string
	mode         uint32
	uid, gid     int64
	mtime        time.Time
	major, minor int64
	xattrs       map[string][]byte
	content      Content
}

// A tarScanner reads the headers of a tar and skips the contents.
type tarScanner struct {
	src    io.ReaderAt
	size   int64
	next   int64 // where the next header is
	window []byte
	start  int64 // archive offset of window
	global paxRecords

	globalXattrs map[string][]byte // the extended attributes of global, shared by entries
	mixed        int               // see maxMixedXattrs
}

var errTruncated = fmt.Errorf("the archive ends too early: %w", io.ErrUnexpectedEOF)

// block returns the 512 bytes at off, valid until the next call.
func (s *tarScanner) block(off int64) ([]byte, error) {
	if off+tarBlock > s.size {
		return nil, errTruncated
	}
	if at := off - s.start; at >= 0 && at+tarBlock <= int64(len(s.window)) {
		return s.window[at : at+tarBlock], nil
	}
	want := min(tarWindow, s.size-off)
	s.window, s.start = s.window[:cap(s.window)][:want], off
	if n, err := s.src.ReadAt(s.window, off); int64(n) < want {
		s.window = s.window[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = errTruncated
		}
		return nil, fmt.Errorf("read header at %d: %w", off, err)
	}
	return s.window[:tarBlock], nil
}

// entry returns the next entry, or io.EOF at the end of the archive.
func (s *tarScanner) entry() (*tarEntry, error) {
	var local paxRecords
	var longName, longLink string
	for {
		if s.next >= s.size {
			return nil, io.EOF
		}
		hdr, err := s.block(s.next)
		if err != nil {
			return nil, err
		}
		if allZero(hdr) {
			return nil, io.EOF
		}
		if err := verifyTarChecksum(hdr); err != nil {
			return nil, fmt.Errorf("header at %d: %w", s.next, err)
		}
		flag := hdr[156]
		switch flag {
		case tarPAX, tarPAXGlobal, tarLongName, tarLongLink:
			data, err := s.records(hdr)
			if err != nil {
				return nil, err
			}
			switch flag {
			case tarPAX:
				local, err = parsePAX(data)
			case tarPAXGlobal:
				if s.global, err = parsePAX(data); err == nil {
					s.globalXattrs, err = xattrsOf(s.global)
				}
			case tarLongName:
				longName = cString(data)
			case tarLongLink:
				longLink = cString(data)
			}
			if err != nil {
				return nil, fmt.Errorf("header at %d: %w", s.next, err)
			}
			continue
		}
		at := s.next
		e, err := s.parse(hdr, longName, longLink, local)
		if err != nil {
			if e != nil {
				return nil, fmt.Errorf("entry %q: %w", e.name, err)
			}
			return nil, fmt.Errorf("header at %d: %w", at, err)
		}
		return e, nil
	}
}

// records reads the body of an extension header and moves on to the next one.
func (s *tarScanner) records(hdr []byte) ([]byte, error) {
	size, err := tarNumber(hdr[124:136])
	if err != nil || size < 0 || size > maxTarRecords {
		return nil, fmt.Errorf("header at %d: extension records of %d bytes are more than the %d accepted", s.next, size, maxTarRecords)
	}
	if size > s.size-s.next-tarBlock {
		return nil, errTruncated
	}
	data := make([]byte, size)
	if n, err := s.src.ReadAt(data, s.next+tarBlock); int64(n) < size {
		return nil, fmt.Errorf("read extension records at %d: %w", s.next, err)
	}
	s.next += tarBlock + roundUp(size, tarBlock)
	return data, nil
}

// parse converts the header at s.next to an entry and moves to the end of its data.
func (s *tarScanner) parse(hdr []byte, longName, longLink string, local paxRecords) (*tarEntry, error) {
	e := &tarEntry{flag: hdr[156], name: tarName(hdr), link: cString(hdr[157:257])}
	if longName != "" {
		e.name = longName
	}
	if longLink != "" {
		e.link = longLink
	}
	size, err := e.parseNumbers(hdr)
	if err != nil {
		return e, err
	}
	for _, records := range []paxRecords{s.global, local} {
		if err := e.applyPAX(records, &size); err != nil {
			return e, err
		}
	}
	if err := s.applyXattrs(e, local); err != nil {
		return e, err
	}
	// The old format marks a directory by a slash at the end of a file's name.
	if (e.flag == tarRegOld || e.flag == tarReg) && strings.HasSuffix(e.name, "/") {
		e.flag = tarDir
	}
	at := s.next
	s.next += tarBlock
	switch e.flag {
	case tarLink, tarSymlink, tarChar, tarBlockDev, tarDir, tarFIFO:
		// These types have no data, whatever their size field says. pax(1) allows a hard link to
		// have the file's data, which is not needed.
		if e.flag != tarLink || local["size"] == "" {
			return e, nil
		}
	case tarSparse:
		if err := s.oldSparse(e, at, size); err != nil {
			return e, err
		}
		return e, nil
	}
	data := s.next
	if size > s.size-data {
		return e, errTruncated
	}
	s.next = min(s.size, data+roundUp(size, tarBlock))
	if sparse, err := s.paxSparse(e, local, data, size); sparse || err != nil {
		return e, err
	}
	e.content = Section(s.src, data, size)
	return e, nil
}

// parseNumbers fills in the numeric fields and returns the size of the data.
func (e *tarEntry) parseNumbers(hdr []byte) (size int64, err error) {
	number := func(what string, field []byte) int64 {
		n, e := tarNumber(field)
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", what, e)
		}
		return n
	}
	e.mode = uint32(number("mode", hdr[100:108])) & 0o7777
	e.uid = number("owner", hdr[108:116])
	e.gid = number("group", hdr[116:124])
	size = number("size", hdr[124:136])
	e.mtime = time.Unix(number("time", hdr[136:148]), 0)
	if e.flag == tarChar || e.flag == tarBlockDev {
		e.major = number("device major", hdr[329:337])
		e.minor = number("device minor", hdr[337:345])
	}
	if err == nil && size < 0 {
		err = fmt.Errorf("negative size %d", size)
	}
	return size, err
}

// tarName joins the name with the prefix that POSIX archives have.
func tarName(hdr []byte) string {
	name := cString(hdr[0:100])
	if string(hdr[257:263]) == "ustar\x00" {
		if prefix := cString(hdr[345:500]); prefix != "" {
			return prefix + "/" + name
		}
	}
	return name
}

// tarNumber reads an octal field, or GNU's base-256 when the first bit is set.
func tarNumber(field []byte) (int64, error) {
	if field[0]&0x80 == 0 {
		s := strings.Trim(string(field), " \x00")
		if s == "" {
			return 0, nil
		}
		s, _, _ = strings.Cut(s, "\x00")
		n, err := strconv.ParseInt(s, 8, 64)
		if err != nil {
			return 0, fmt.Errorf("bad octal number %q", s)
		}
		return n, nil
	}
	// Two's complement, with the marker bit in place of the second sign bit.
	var n int64
	if field[0]&0x40 != 0 {
		n = -1
	}
	for i, b := range field {
		if i == 0 {
			b &= 0x7f
			if n < 0 {
				b |= 0x80
			}
		}
		if n > 1<<54 || n < -1<<54 {
			return 0, errors.New("number does not fit in 64 bits")
		}
		n = n<<8 | int64(b)
	}
	return n, nil
}

// verifyTarChecksum compares the sum of the header's bytes, its own field
// taken as spaces, with the stored one; old archives sum signed bytes.
func verifyTarChecksum(hdr []byte) error {
	want, err := tarNumber(hdr[148:156])
	if err != nil {
		return fmt.Errorf("not a tar header: %w", err)
	}
	var unsigned, signed int64
	for i, b := range hdr[:tarBlock] {
		if i >= 148 && i < 156 {
			b = ' '
		}
		unsigned += int64(b)
		signed += int64(int8(b))
	}
	if want != unsigned && want != signed {
		return errors.New("not a tar header: wrong checksum")
	}
	return nil
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
