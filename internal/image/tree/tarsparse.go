package tree

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Sparse files in tars: GNU's own format ('S' headers), and the formats 0.0,
// 0.1 and 1.0 in PAX records (GNU tar manual, "Storing Sparse Files").

// A sparseMap collects the stored pieces of a sparse file, which are consecutive in the archive.
type sparseMap struct {
	extents []Extent
	end     int64 // file offset after the last piece
	stored  int64 // bytes in the archive so far
}

func (m *sparseMap) add(offset, length int64) error {
	if offset < m.end || length < 0 || offset+length < offset {
		return fmt.Errorf("sparse map has %d bytes at %d after one that ends at %d", length, offset, m.end)
	}
	if len(m.extents) >= maxSparseExtents {
		return fmt.Errorf("sparse map has more than the %d pieces accepted", maxSparseExtents)
	}
	m.end = offset + length
	if length == 0 { // marks the end of a file whose last part is a hole
		return nil
	}
	m.extents = append(m.extents, Extent{Offset: offset, Length: length, SourceOffset: m.stored})
	m.stored += length
	return nil
}

// content turns the map into the content of a file of the given size whose
// pieces are the archive's bytes from data on, stored of them.
func (s *tarScanner) sparseContent(m *sparseMap, size, data, stored int64) (Content, error) {
	if m.end > size {
		return Content{}, fmt.Errorf("sparse map ends at %d in a file of %d bytes", m.end, size)
	}
	if m.stored > stored {
		return Content{}, fmt.Errorf("sparse map wants %d bytes of the %d in the archive", m.stored, stored)
	}
	for i := range m.extents {
		m.extents[i].Source = s.src
		m.extents[i].SourceOffset += data
	}
	return Content{Size: size, Extents: m.extents}, nil
}

// oldSparse reads an 'S' entry: four pieces and the real size are in the header, further ones in
// blocks of 21 after it, each with a flag for "more".
func (s *tarScanner) oldSparse(e *tarEntry, at, stored int64) error {
	hdr, err := s.block(at)
	if err != nil {
		return err
	}
	realSize, err := tarNumber(hdr[483:495])
	if err != nil {
		return fmt.Errorf("size of sparse file: %w", err)
	}
	var m sparseMap
	pieces, more := hdr[386:482], hdr[482]
	for {
		for ; len(pieces) >= 24 && pieces[0] != 0; pieces = pieces[24:] {
			offset, err1 := tarNumber(pieces[:12])
			length, err2 := tarNumber(pieces[12:24])
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("sparse map: %w", err)
			}
			if err := m.add(offset, length); err != nil {
				return err
			}
		}
		if more == 0 {
			break
		}
		b, err := s.block(s.next)
		if err != nil {
			return err
		}
		s.next += tarBlock
		pieces, more = b[:504], b[504]
	}
	data := s.next
	if stored > s.size-data {
		return errTruncated
	}
	s.next = min(s.size, data+roundUp(stored, tarBlock))
	e.flag = tarReg
	e.content, err = s.sparseContent(&m, realSize, data, stored)
	return err
}

// paxSparse sets the content of an entry that is sparse according to its PAX records, and reports
// whether it is.
func (s *tarScanner) paxSparse(e *tarEntry, records paxRecords, data, stored int64) (bool, error) {
	is10 := records["GNU.sparse.major"] == "1" && records["GNU.sparse.minor"] == "0"
	list, is0x := records["GNU.sparse.map"]
	if !is10 && !is0x {
		return false, nil
	}
	sizeKey := "GNU.sparse.size"
	if is10 {
		sizeKey = "GNU.sparse.realsize"
	}
	realSize, err := paxNumber(records[sizeKey])
	if err != nil {
		return true, fmt.Errorf("%s %q: %w", sizeKey, records[sizeKey], err)
	}
	if name := records["GNU.sparse.name"]; name != "" {
		e.name = name
	}
	m := &sparseMap{}
	if is10 {
		var used int64
		m, used, err = s.readSparseMap(data, stored)
		data, stored = data+used, stored-used
	} else {
		err = m.addList(strings.Split(list, ","))
	}
	if err != nil {
		return true, err
	}
	e.content, err = s.sparseContent(m, realSize, data, stored)
	return true, err
}

// addList adds pieces given as decimal numbers, offset and length in turn.
func (m *sparseMap) addList(numbers []string) error {
	if len(numbers) == 1 && numbers[0] == "" {
		return nil
	}
	if len(numbers)%2 != 0 {
		return errors.New("sparse map has an offset without a length")
	}
	for ; len(numbers) > 0; numbers = numbers[2:] {
		offset, err1 := paxNumber(numbers[0])
		length, err2 := paxNumber(numbers[1])
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("sparse map: %w", err)
		}
		if err := m.add(offset, length); err != nil {
			return err
		}
	}
	return nil
}

// maxSparseLine is the longest line of a format 1.0 map: a number of 64 bits and its newline.
const maxSparseLine = 20

// readSparseMap reads the map that format 1.0 has before the data: lines with the number of pieces
// and the offset and length of each, padded to a whole block. It also returns the map's length in
// the archive, in bytes.
func (s *tarScanner) readSparseMap(at, stored int64) (*sparseMap, int64, error) {
	var text []byte
	var used, newlines, want int64
	want = 1
	count := int64(-1)
	for newlines < want {
		if used+tarBlock > stored {
			return nil, 0, errors.New("sparse map does not end")
		}
		b, err := s.block(at + used)
		if err != nil {
			return nil, 0, err
		}
		used += tarBlock
		if text = append(text, b...); int64(len(text)) > want*maxSparseLine+tarBlock {
			return nil, 0, errors.New("sparse map has lines that are too long for numbers")
		}
		newlines += int64(bytes.Count(b, []byte{'\n'}))
		if count < 0 && newlines > 0 {
			first, _, _ := strings.Cut(string(text), "\n")
			if count, err = strconv.ParseInt(first, 10, 64); err != nil || count < 0 || count > maxSparseExtents {
				return nil, 0, fmt.Errorf("sparse map with %q pieces", first)
			}
			want = 1 + 2*count
		}
		if count < 0 {
			return nil, 0, errors.New("sparse map does not begin with a count")
		}
	}
	lines := strings.Split(string(text), "\n")
	m := &sparseMap{}
	return m, used, m.addList(lines[1 : 1+2*count])
}
