package apk

import (
	"bufio"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/sovereign-sql/sov/internal/bound"
)

const (
	// maxControl is the largest decompressed control member: .PKGINFO and a few scripts. It also
	// limits each file in it.
	maxControl = 32 << 20
	// dataAllowance is the space of the data tar beyond four times InstalledSize, for headers of
	// 512 bytes to 2 KiB for each entry.
	dataAllowance = 256 << 20
)

// controlLimit is for control members and those that may be one: real ones are text of a few KiB.
var controlLimit = bound.Limit{Bytes: maxControl, Free: 1 << 20, Ratio: 64}

// A File is an opened .apk, a sequence of gzip members: an optional signature, the control
// information and the package's files.
type File struct {
	r          io.ReaderAt
	size       int64
	signature  *member // nil if unsigned
	signatures []signature
	controlAt  *member
	control    *Control
}

// OpenPackage splits a .apk of size bytes into its members and reads its control information. It
// does not verify the package: call Verify.
func OpenPackage(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("open package: %w", err)
	}
	return f, nil
}

func (f *File) open() error {
	m, err := readMember(f.r, 0, f.size, controlLimit)
	if err != nil {
		return err
	}
	if f.signatures, err = parseSignatures(m.content); err != nil {
		return err
	}
	if f.signatures != nil {
		f.signature = m
		if m, err = readMember(f.r, m.end, f.size, controlLimit); err != nil {
			return fmt.Errorf("control: %w", err)
		}
	}
	f.controlAt = m
	if f.control, err = parseControl(m.content); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	s1, _, err := f.controlSums()
	if err != nil {
		return err
	}
	f.control.Package.Checksum = SHA1Checksum(s1)
	f.control.Package.Size = f.size
	return nil
}

// Control returns the control information.
func (f *File) Control() *Control { return f.control }

// Info returns the content of .PKGINFO.
func (f *File) Info() *Package { return f.control.Package }

// Scripts returns the types of the package's scripts in the order of the file, such as
// "pre-install".
func (f *File) Scripts() []string {
	types := make([]string, len(f.control.Scripts))
	for i, s := range f.control.Scripts {
		types[i] = s.Type
	}
	return types
}

// Verify checks that the control member has the checksum want and is signed by one of keys, that
// the data member is the one that the control member names, and that nothing else is in the file.
// An empty want or nil keys skip their check.
func (f *File) Verify(keys Keys, want Checksum) error {
	if err := f.verify(keys, want); err != nil {
		return fmt.Errorf("verify package %s: %w", f.Info().ID(), err)
	}
	return nil
}

func (f *File) verify(keys Keys, want Checksum) error {
	s1, s256, err := f.controlSums()
	if err != nil {
		return err
	}
	if want != "" && !want.matches(s1, s256) {
		return fmt.Errorf("its control information has checksum %s, not %s as the index says: the file was damaged or tampered with, or the index is from another time",
			SHA1Checksum(s1), want)
	}
	if keys != nil {
		if _, err := verifySignatures(f.signatures, keys, f.controlBytes()); err != nil {
			return err
		}
		if err := checkPlain(f.r, f.signature); err != nil {
			return fmt.Errorf("signature: %w", err)
		}
	}
	h := sha256.New()
	if _, err := io.Copy(h, f.dataBytes()); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return f.checkDataHash(h)
}

func (f *File) controlBytes() io.Reader {
	return io.NewSectionReader(f.r, f.controlAt.offset, f.controlAt.end-f.controlAt.offset)
}

func (f *File) dataBytes() io.Reader {
	return io.NewSectionReader(f.r, f.controlAt.end, f.size-f.controlAt.end)
}

// controlSums returns the sums of the control member as compressed.
func (f *File) controlSums() (s1 [sha1.Size]byte, s256 [sha256.Size]byte, err error) {
	h1, h256 := sha1.New(), sha256.New()
	_, err = io.Copy(io.MultiWriter(h1, h256), f.controlBytes())
	h1.Sum(s1[:0])
	h256.Sum(s256[:0])
	return s1, s256, err
}

// checkDataHash compares the hash of the data member with the one the control member names. A
// package that names none must not have data.
func (f *File) checkDataHash(h hash.Hash) error {
	want := f.control.DataHash
	if want == "" {
		if f.controlAt.end != f.size {
			return errors.New(".PKGINFO names no datahash for the files that follow")
		}
		return nil
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("its files have SHA-256 %s, not %s as .PKGINFO says: the file was damaged or tampered with", got, want)
	}
	return nil
}

// DataTar writes the decompressed data tar to w. It returns an error if the data member does not
// have the hash in the control member, is malformed, or is too large for InstalledSize; w has then
// received a part of it.
func (f *File) DataTar(w io.Writer) error {
	if err := f.dataTar(w); err != nil {
		return fmt.Errorf("decompress package %s: %w", f.Info().ID(), err)
	}
	return nil
}

func (f *File) dataTar(w io.Writer) error {
	h := sha256.New()
	if f.controlAt.end == f.size {
		return f.checkDataHash(h)
	}
	source := bound.NewSource(io.TeeReader(f.dataBytes(), h))
	z, err := gzip.NewReader(bufio.NewReaderSize(source, 256<<10))
	if err != nil {
		return noEOF(err)
	}
	limit := bound.Limit{Bytes: dataAllowance + 4*min(f.Info().InstalledSize, 1<<60), Free: 16 << 20, Ratio: 100}
	if _, err := io.Copy(w, limit.Expanded(z, source)); err != nil {
		return noEOF(err)
	}
	return f.checkDataHash(h)
}
