package diskimage

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// ESPSize is the size of an EFI system partition in bytes. FAT32 needs at least 65,525 clusters
// (fatgen103, page 14), which is 33 MiB with clusters of one sector; a kernel has about 10 MiB.
const ESPSize = 64 << 20

// ESP returns a function that writes an EFI system partition with one file. The path consists of
// upper-case names of up to eight characters with suffixes of up to three. serial is the volume's
// serial number, when the time of all entries.
//
// go-diskfs, which writes the partition table, can also write FAT32. Its version 1.9.4 takes times
// from the environment and the clock, writes a table that is two entries too short for some sizes,
// and lets ".." refer to cluster 2, which fsck.fat reports. Correcting that takes more code than
// this file.
func ESP(name string, content []byte, serial uint32, when time.Time) func(context.Context, *Section) error {
	return func(_ context.Context, p *Section) error {
		if err := newFAT(p.Size(), serial, when).write(p, strings.Split(name, "/"), content); err != nil {
			return fmt.Errorf("make FAT32: %w", err)
		}
		return nil
	}
}

const (
	fatReserved = 32 // sectors before the first table, as mkfs.fat leaves
	fatCopies   = 2
	fatRoot     = 2 // the root directory's cluster, the first one
	fatEnd      = 0x0FFFFFFF
	fatEntry    = 32 // bytes of an entry of a directory
	fatPerTable = sector / 4

	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
)

// A fat is a FAT32 file system with clusters of one sector and contiguous files.
type fat struct {
	sectors   uint32
	perTable  uint32 // sectors of a table
	serial    uint32
	time, day uint16
	next      uint32   // first free cluster
	table     []uint32 // of the allocated clusters, after two reserved entries
}

const fatLabel = "SOV-ESP    "

func newFAT(size int64, serial uint32, when time.Time) *fat {
	when = when.UTC()
	if when.Year() < 1980 || when.Year() > 2107 { // the range of the format
		when = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	f := &fat{sectors: uint32(size / sector), serial: serial, next: fatRoot,
		time: uint16(when.Hour()<<11 | when.Minute()<<5 | when.Second()/2), day: uint16((when.Year()-1980)<<9 | int(when.Month())<<5 | when.Day()),
		table: []uint32{0x0FFFFFF8, fatEnd}} // the first entry repeats the medium
	// A table of n sectors has entries for all clusters, sectors - reserved - 2n of them, and two
	// more.
	f.perTable = (f.sectors - fatReserved + 2 + fatPerTable + fatCopies - 1) / (fatPerTable + fatCopies)
	return f
}

func (f *fat) clusters() uint32 { return f.sectors - fatReserved - fatCopies*f.perTable }

// at returns the offset of a cluster in bytes.
func (f *fat) at(cluster uint32) int64 {
	return int64(fatReserved+fatCopies*f.perTable+cluster-fatRoot) * sector
}

// take allocates clusters for some bytes and returns the first.
func (f *fat) take(size int) (first uint32, err error) {
	first, n := f.next, uint32((size+sector-1)/sector)
	if n > f.clusters()-(first-fatRoot) {
		return 0, fmt.Errorf("%d bytes do not fit", size)
	}
	for range n - 1 {
		f.next++
		f.table = append(f.table, f.next)
	}
	f.next++
	f.table = append(f.table, fatEnd)
	return first, nil
}

func (f *fat) write(p *Section, path []string, content []byte) error {
	parent, entry := uint32(0), f.entry(fatLabel, attrVolume, 0, 0)
	directory, err := f.take(sector)
	if err != nil {
		return err
	}
	for i, name := range path {
		short, err := shortName(name)
		if err != nil {
			return err
		}
		attributes, size, bytes := byte(attrDirectory), 0, sector
		if i == len(path)-1 {
			attributes, size, bytes = attrArchive, len(content), len(content)
		}
		cluster, err := f.take(bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		entry = append(entry, f.entry(short, attributes, cluster, uint32(size))...)
		if _, err := p.WriteAt(entry, f.at(directory)); err != nil {
			return err
		}
		// In a directory of the root directory, ".." is cluster 0 (fatgen103, page 26).
		entry = append(f.entry(".          ", attrDirectory, cluster, 0), f.entry("..         ", attrDirectory, parent, 0)...)
		parent, directory = cluster, cluster
	}
	if _, err := p.WriteAt(content, f.at(directory)); err != nil {
		return err
	}
	return f.writeSystem(p)
}

// writeSystem writes the boot sector, the sector with the number of free clusters, their copies,
// and the tables.
func (f *fat) writeSystem(p *Section) error {
	le := binary.LittleEndian
	boot := make([]byte, sector)
	copy(boot, "\xEB\x58\x90sov     ")
	le.PutUint16(boot[11:], sector)
	boot[13] = 1 // sectors of a cluster
	le.PutUint16(boot[14:], fatReserved)
	boot[16] = fatCopies
	boot[21] = 0xF8 // a fixed disk
	le.PutUint16(boot[24:], 63)
	le.PutUint16(boot[26:], 255) // number of heads, not used
	le.PutUint32(boot[32:], f.sectors)
	le.PutUint32(boot[36:], f.perTable)
	le.PutUint32(boot[44:], fatRoot)
	le.PutUint16(boot[48:], 1) // FSInfo
	le.PutUint16(boot[50:], 6) // copy of the boot sector
	boot[64], boot[66] = 0x80, 0x29
	le.PutUint32(boot[67:], f.serial)
	copy(boot[71:], fatLabel+"FAT32   ")
	info := make([]byte, sector)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], f.clusters()-(f.next-fatRoot))
	le.PutUint32(info[492:], f.next)
	for _, b := range [][]byte{boot, info} {
		le.PutUint16(b[510:], 0xAA55)
	}
	var table []byte
	for _, next := range f.table {
		table = le.AppendUint32(table, next)
	}
	for _, part := range []struct {
		content []byte
		sectors []uint32
	}{{boot, []uint32{0, 6}}, {info, []uint32{1, 7}}, {table, []uint32{fatReserved, fatReserved + f.perTable}}} {
		for _, at := range part.sectors {
			if _, err := p.WriteAt(part.content, int64(at)*sector); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry returns a directory entry (fatgen103, page 23).
func (f *fat) entry(name string, attributes byte, cluster, size uint32) []byte {
	b := make([]byte, fatEntry)
	copy(b, name)
	b[11] = attributes
	le := binary.LittleEndian
	le.PutUint16(b[14:], f.time) // creation
	le.PutUint16(b[16:], f.day)
	le.PutUint16(b[18:], f.day) // last access
	le.PutUint16(b[20:], uint16(cluster>>16))
	le.PutUint16(b[22:], f.time) // last write
	le.PutUint16(b[24:], f.day)
	le.PutUint16(b[26:], uint16(cluster))
	le.PutUint32(b[28:], size)
	return b
}

// shortName returns a name in the format of an entry.
func shortName(name string) (string, error) {
	stem, suffix, _ := strings.Cut(name, ".")
	if stem == "" || len(stem) > 8 || len(suffix) > 3 || strings.ContainsFunc(stem+suffix, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		return "", fmt.Errorf("%q is not a name of capitals and digits with up to eight characters and a suffix of up to three", name)
	}
	return fmt.Sprintf("%-8s%-3s", stem, suffix), nil
}
