package seed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// errNotFAT says that a disk does not hold FAT.
var errNotFAT = errors.New("not FAT")

// A fat is a FAT12, FAT16 or FAT32 file system (Microsoft's specification of 2004, fatgen103).
type fat struct {
	r        io.ReaderAt
	bits     int   // of an entry of the table
	table    int64 // where the first table begins
	data     int64 // where cluster 2 begins
	cluster  int64 // bytes
	clusters uint32

	root, rootSize int64  // of FAT12 and FAT16
	rootCluster    uint32 // of FAT32
	label          string // of the boot sector
}

// readFAT returns the volume's label, and the named files of the root directory.
func readFAT(r io.ReaderAt, names ...string) (label string, files map[string][]byte, err error) {
	f, err := openFAT(r)
	if err != nil {
		return "", nil, err
	}
	directory, err := f.rootDirectory()
	if err != nil {
		return "", nil, fmt.Errorf("root directory: %w", err)
	}
	label, files = f.label, map[string][]byte{}
	var long longName
	for ; len(directory) >= 32 && directory[0] != 0; directory = directory[32:] {
		e := directory[:32]
		const isLong, isVolume, isDirectory, deleted = 0x0F, 0x08, 0x10, 0xE5
		switch attributes := e[11]; {
		case e[0] == deleted:
			long = longName{}
		case attributes == isLong:
			long.add(e)
			continue
		case attributes&isVolume != 0:
			label = strings.TrimRight(string(e[:11]), " ")
		case attributes&isDirectory == 0:
			for _, want := range names {
				if !strings.EqualFold(long.String(), want) {
					continue
				}
				first := uint32(binary.LittleEndian.Uint16(e[26:])) | uint32(binary.LittleEndian.Uint16(e[20:]))<<16
				if files[want], err = f.read(first, int64(binary.LittleEndian.Uint32(e[28:])), maxFile); err != nil {
					return label, nil, fmt.Errorf("%s: %w", want, err)
				}
			}
		}
		long = longName{}
	}
	return label, files, nil
}

func openFAT(r io.ReaderAt) (*fat, error) {
	b := make([]byte, 512)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return nil, errors.Join(errNotFAT, err)
	}
	le := binary.LittleEndian
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	tables, entries := int64(b[16]), int64(le.Uint16(b[17:]))
	if b[510] != 0x55 || b[511] != 0xAA || !power(sector) || sector < 512 || sector > 4096 || !power(perCluster) || tables == 0 {
		return nil, errNotFAT
	}
	sectors, perTable := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	f := &fat{r: r, cluster: sector * perCluster, table: int64(le.Uint16(b[14:])) * sector, label: strings.TrimRight(string(b[43:54]), " ")}
	if perTable == 0 { // FAT32
		perTable, f.rootCluster = int64(le.Uint32(b[36:])), le.Uint32(b[44:])
		f.label = strings.TrimRight(string(b[71:82]), " ")
	}
	f.root, f.rootSize = f.table+tables*perTable*sector, (entries*32+sector-1)/sector*sector
	f.data = f.root + f.rootSize
	f.clusters = uint32(max(sectors*sector-f.data, 0) / f.cluster)
	switch { // only the number of clusters decides (page 14)
	case f.clusters < 4085:
		f.bits = 12
	case f.clusters < 65525:
		f.bits = 16
	default:
		f.bits = 32
	}
	if (f.rootCluster != 0) != (f.bits == 32) {
		return nil, errNotFAT
	}
	return f, nil
}

func (f *fat) rootDirectory() ([]byte, error) {
	if f.bits == 32 {
		return f.read(f.rootCluster, -1, maxDirectory)
	}
	b := make([]byte, min(f.rootSize, maxDirectory))
	n, err := f.r.ReadAt(b, f.root)
	if n < len(b) {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return b, nil
}

// read reads a file that begins in a cluster. A size of -1 means all its clusters, up to limit
// bytes.
func (f *fat) read(cluster uint32, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are read", size, limit)
	}
	var b []byte
	for int64(len(b)) != size && (size >= 0 || int64(len(b)) < limit) {
		if cluster < 2 || cluster-2 >= f.clusters {
			if size < 0 && len(b) > 0 { // the end of the chain
				break
			}
			return nil, errors.New("its clusters end too early")
		}
		part := make([]byte, f.cluster)
		if size >= 0 {
			part = part[:min(f.cluster, size-int64(len(b)))]
		}
		if n, err := f.r.ReadAt(part, f.data+int64(cluster-2)*f.cluster); n < len(part) {
			return nil, errors.Join(io.ErrUnexpectedEOF, err)
		}
		b = append(b, part...)
		var err error
		if cluster, err = f.next(cluster); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// next returns the next cluster in the table.
func (f *fat) next(cluster uint32) (uint32, error) {
	b := make([]byte, 4)
	at := f.table + int64(cluster)*int64(f.bits)/8
	if n, err := f.r.ReadAt(b[:max(f.bits/8, 2)], at); n < max(f.bits/8, 2) {
		return 0, errors.Join(io.ErrUnexpectedEOF, err)
	}
	next := binary.LittleEndian.Uint32(b)
	switch {
	case f.bits == 12 && cluster%2 == 1:
		return next >> 4, nil
	case f.bits == 12:
		return next & 0xFFF, nil
	}
	return next & 0x0FFFFFFF, nil
}

// A longName is composed from the entries before a file's own entry, the last part first (page 27).
type longName struct{ units []uint16 }

func (l *longName) add(entry []byte) {
	const last, maxUnits = 0x40, 255
	if entry[0]&last != 0 {
		l.units = nil
	}
	if len(l.units) > maxUnits {
		return
	}
	var part []uint16
	for _, field := range [][]byte{entry[1:11], entry[14:26], entry[28:32]} {
		for ; len(field) > 0; field = field[2:] {
			part = append(part, binary.LittleEndian.Uint16(field))
		}
	}
	l.units = append(part, l.units...)
}

func (l longName) String() string {
	name, _, _ := strings.Cut(string(utf16.Decode(l.units)), "\x00")
	return name
}
