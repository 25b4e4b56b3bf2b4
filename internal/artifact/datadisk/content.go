package datadisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A Content is what a data disk holds, as far as its first bytes tell.
type Content int

// Contents of data disks.
const (
	Plain     Content = iota // a file system, or what is left of one
	Encrypted                // LUKS2
	ToEncrypt                // nothing yet: the guest encrypts and formats it
)

// Magic numbers of the two copies of a LUKS2 header, and where the second one stands (LUKS2 On-Disk
// Format Specification, section 2.1). cryptsetup restores either copy from the other. The second one has further
// places for larger headers, which no data disk has.
const (
	magicFirst, magicSecond = "LUKS\xba\xbe", "SKUL\xba\xbe"
	secondOffset            = 0x4000
)

// Look returns what the data disk at path holds.
func Look(path string) (Content, error) {
	f, err := os.Open(path)
	if err != nil {
		return Plain, fmt.Errorf("look at the data disk: %w", err)
	}
	defer f.Close()
	for _, known := range []struct {
		content Content
		text    string
		at      int64
	}{
		{ToEncrypt, guestspec.NewDiskMark, guestspec.NewDiskOffset},
		{Encrypted, magicFirst, 0},
		{Encrypted, magicSecond, secondOffset},
	} {
		found := make([]byte, len(known.text))
		if _, err := f.ReadAt(found, known.at); err != nil && !errors.Is(err, io.EOF) {
			return Plain, fmt.Errorf("look at the data disk: %w", err)
		}
		if bytes.Equal(found, []byte(known.text)) {
			return known.content, nil
		}
	}
	return Plain, nil
}

// A MismatchError is a data disk that is encrypted where it must not be, or the other way round.
type MismatchError struct{ Encrypted bool }

func (e *MismatchError) Error() string {
	if e.Encrypted {
		return "it is encrypted, and this version of the machine does not encrypt it (vm.encrypt)"
	}
	return "it is not encrypted, and this version of the machine wants it encrypted (vm.encrypt); an existing disk is never converted"
}

// Ensure makes the data disk at path unless there is one, and enlarges one that is smaller than size.
// It reports what it has done: "made", "enlarged" or "". With encrypted, a new disk is one to encrypt. A disk that
// exists and is not of the wanted kind stays as it is, and the error wraps a *MismatchError.
func Ensure(ctx context.Context, path string, size int64, encrypted bool) (done string, err error) {
	_, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if encrypted {
			err = CreateToEncrypt(path, size)
		} else {
			err = Create(ctx, path, size)
		}
		if !errors.Is(err, fs.ErrExist) {
			return "made", err
		}
	} else if err != nil {
		return "", err
	}
	content, err := Look(path)
	if err != nil {
		return "", err
	}
	if has := content != Plain; has != encrypted {
		return "", fmt.Errorf("%s: %w", path, &MismatchError{has})
	}
	grown, err := Grow(path, size)
	if grown {
		done = "enlarged"
	}
	return done, err
}
