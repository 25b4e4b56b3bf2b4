package datadisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A Content is what a disk holds, as far as its first bytes tell.
type Content int

// Contents of disks.
const (
	Plain     Content = iota // a file system, or what is left of one
	Encrypted                // LUKS2
	ToEncrypt                // nothing yet: the guest encrypts and formats it
)

// Magic numbers of the two copies of a LUKS2 header, and where the second one stands (LUKS2 On-Disk
// Format Specification, section 2.1). cryptsetup restores either copy from the other. The second
// one has further places for larger headers, which no data disk has.
const (
	magicFirst, magicSecond = "LUKS\xba\xbe", "SKUL\xba\xbe"
	secondOffset            = 0x4000
)

// Look returns what the disk at path holds.
func (s Spec) Look(path string) (Content, error) {
	f, err := os.Open(path)
	if err != nil {
		return Plain, fmt.Errorf("look at the %s: %w", s.Name(), err)
	}
	defer f.Close()
	for _, known := range []struct {
		content Content
		text    string
		at      int64
	}{
		{ToEncrypt, guestspec.NewDiskMark(s.label()), guestspec.NewDiskOffset},
		{Encrypted, magicFirst, 0},
		{Encrypted, magicSecond, secondOffset},
	} {
		found := make([]byte, len(known.text))
		if _, err := f.ReadAt(found, known.at); err != nil && !errors.Is(err, io.EOF) {
			return Plain, fmt.Errorf("look at the %s: %w", s.Name(), err)
		}
		if bytes.Equal(found, []byte(known.text)) {
			return known.content, nil
		}
	}
	return Plain, nil
}

// A MismatchError is a disk that is encrypted where it must not be, or the other way round.
type MismatchError struct {
	Encrypted bool
	Volume    string // as in Spec
}

// key is what a recipe says of the disk's encryption.
func (e *MismatchError) key() string {
	if e.Volume != "" {
		return "encrypted of volume " + e.Volume
	}
	return "vm.encrypt"
}

func (e *MismatchError) Error() string {
	if e.Encrypted {
		return "it is encrypted, and this version of the machine does not encrypt it (" + e.key() + ")"
	}
	return "it is not encrypted, and this version of the machine wants it encrypted (" + e.key() + "); an existing disk is never converted"
}

// A Spec says what a disk is to be.
type Spec struct {
	Volume    string // its name; empty: the data disk
	Size      int64  // bytes, rounded down to whole 128 MiB
	Encrypted bool
}

// Of returns what a disk of vm.json is to be.
func Of(d vmspec.Disk) Spec {
	return Spec{Volume: d.Name, Size: d.Size, Encrypted: d.Key != ""}
}

func (s Spec) label() string {
	if s.Volume != "" {
		return guestspec.VolumeLabel(s.Volume)
	}
	return guestspec.DataLabel
}

// Name is what messages call the disk.
func (s Spec) Name() string {
	if s.Volume != "" {
		return "volume " + s.Volume
	}
	return "data disk"
}

// Ensure makes the disk at path unless there is one, and enlarges one that is smaller than it
// should be. It reports what it has done: "made", "enlarged" or "". A new disk that is to be
// encrypted is one for the guest to encrypt. A disk that exists and is not of the wanted kind stays
// as it is, and the error wraps a *MismatchError.
func (s Spec) Ensure(ctx context.Context, path string) (done string, err error) {
	_, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.Create(ctx, path); !errors.Is(err, fs.ErrExist) {
			return "made", err
		}
	} else if err != nil {
		return "", err
	}
	content, err := s.Look(path)
	if err != nil {
		return "", err
	}
	if has := content != Plain; has != s.Encrypted {
		return "", fmt.Errorf("%s: %w", path, &MismatchError{has, s.Volume})
	}
	grown, err := Grow(path, s.Size)
	if grown {
		done = "enlarged"
	}
	return done, err
}
