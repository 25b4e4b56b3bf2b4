// Package diskimage writes the image of a disk that boots under UEFI: a protective MBR, a GPT, an
// EFI system partition (FAT32), and further partitions with content from the caller.
//
// The same arguments give the same bytes: the caller passes all GUIDs and times. Formats: UEFI
// Specification 2.10, chapter 5 (GPT) and section 13.3 (the EFI system partition); Microsoft's FAT
// specification of 2004 (fatgen103).
package diskimage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Types of partitions (UEFI Specification, section 5.3.3; Discoverable Partitions Specification of
// the UAPI group).
const (
	TypeESP       = string(gpt.EFISystemPartition)
	TypeLinux     = string(gpt.LinuxFilesystem)
	TypeRootAMD64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	TypeRootARM64 = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
)

const (
	sector = 512
	// alignment of partitions, in bytes: a multiple of the block sizes of disks and RAIDs.
	alignment = 1 << 20
)

// A Partition describes a partition of the disk.
type Partition struct {
	Name string // up to 36 characters
	Type string // a GUID
	GUID string
	Size int64 // bytes, a multiple of 512
	// Write writes the content of the partition, which is zero before.
	Write func(ctx context.Context, p *Section) error
}

// Write writes a disk with these partitions, in order, to f and sets its size. Holes of f stay
// holes.
func Write(ctx context.Context, f *os.File, guid string, partitions []Partition) error {
	if err := write(ctx, f, guid, partitions); err != nil {
		return fmt.Errorf("write disk image: %w", err)
	}
	return nil
}

func write(ctx context.Context, f *os.File, guid string, partitions []Partition) error {
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, GUID: guid, ProtectiveMBR: true}
	at := int64(alignment)
	for i, p := range partitions {
		if p.Size <= 0 || p.Size%sector != 0 {
			return fmt.Errorf("partition %s: size %d must be a positive multiple of %d", p.Name, p.Size, sector)
		}
		table.Partitions = append(table.Partitions, &gpt.Partition{Index: i + 1, Start: uint64(at / sector),
			Size: uint64(p.Size), Type: gpt.Type(p.Type), Name: p.Name, GUID: p.GUID})
		at = roundUp(at+p.Size, alignment)
	}
	size := at + alignment // includes the backup table of 33 sectors
	if err := errors.Join(f.Truncate(0), f.Truncate(size)); err != nil {
		return err
	}
	for i, p := range partitions {
		section := &Section{file: f, start: int64(table.Partitions[i].Start) * sector, size: p.Size}
		if err := p.Write(ctx, section); err != nil {
			return fmt.Errorf("partition %s: %w", p.Name, err)
		}
	}
	return table.Write(f, size)
}

// A Section is the part of a disk image that belongs to a partition. File systems are written to
// it.
type Section struct {
	file        *os.File
	start, size int64
}

// Size returns the partition's size in bytes.
func (s *Section) Size() int64 { return s.size }

// WriteAt implements io.WriterAt.
func (s *Section) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || int64(len(p)) > s.size-off {
		return 0, fmt.Errorf("write %d bytes at %d of a partition of %d: %w", len(p), off, s.size, io.ErrShortWrite)
	}
	return s.file.WriteAt(p, s.start+off)
}

// Truncate accepts any size up to the partition's. The rest of the partition is zero.
func (s *Section) Truncate(size int64) error {
	if size > s.size {
		return fmt.Errorf("a partition of %d bytes does not have room for %d", s.size, size)
	}
	return nil
}

// Copy returns a function that writes the bytes of r to a partition.
func Copy(r io.ReaderAt, size int64) func(context.Context, *Section) error {
	return func(ctx context.Context, p *Section) error {
		b := make([]byte, 1<<20)
		for at := int64(0); at < size; at += int64(len(b)) {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			b = b[:min(int64(len(b)), size-at)]
			if n, err := r.ReadAt(b, at); n < len(b) {
				return err
			}
			if _, err := p.WriteAt(b, at); err != nil {
				return err
			}
		}
		return nil
	}
}

// GUID derives a GUID from texts: a UUID of version 8 (RFC 9562, section 5.8) of their SHA-256.
func GUID(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(h, "%d %s\n", len(text), text)
	}
	u := h.Sum(nil)[:16]
	u[6], u[8] = u[6]&0x0F|0x80, u[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
