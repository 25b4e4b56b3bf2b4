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

// A Content is the kind of a disk's content, detected by its first bytes.
type Content int

// Contents of disks.
const (
	Plain     Content = iota // a file system, possibly damaged
	Encrypted                // LUKS2
	ToEncrypt                // new: the guest encrypts and formats it
)

// Magic numbers of the two copies of a LUKS2 header, and the offset of the second one (LUKS2
// On-Disk Format Specification, section 2.1). cryptsetup restores either copy from the other.
// Larger headers, which data disks do not have, have other offsets.
const (
	magicFirst, magicSecond = "LUKS\xba\xbe", "SKUL\xba\xbe"
	secondOffset            = 0x4000
)

// Look returns the kind of content of the disk at path.
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

// A MismatchError says that a disk is encrypted but must not be, or the reverse.
type MismatchError struct {
	Encrypted bool
	Volume    string // as in Spec
}

// key returns the recipe's key for the disk's encryption.
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

// A Spec describes a disk.
type Spec struct {
	Volume    string // its name; empty: the data disk
	Size      int64  // bytes, rounded down to whole 128 MiB
	Encrypted bool
}

// Of returns the Spec of a disk in vm.json.
func Of(d vmspec.Disk) Spec {
	return Spec{Volume: d.Name, Size: d.Size, Encrypted: d.Key != ""}
}

func (s Spec) label() string {
	if s.Volume != "" {
		return guestspec.VolumeLabel(s.Volume)
	}
	return guestspec.DataLabel
}

// Name returns the disk's name for messages.
func (s Spec) Name() string {
	if s.Volume != "" {
		return "volume " + s.Volume
	}
	return "data disk"
}

// Ensure creates the disk at path if it does not exist, and enlarges a disk that is too small. It
// returns what it has done: "made", "enlarged" or "". The guest encrypts a new encrypted disk. If
// an existing disk is of the other kind, Ensure does not change it and the error wraps a
// *MismatchError.
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
