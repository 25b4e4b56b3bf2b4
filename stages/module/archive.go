package module

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
)

// ArtifactFolder is the artifact's folder in the archive, where sov-runner reads it.
const ArtifactFolder = "artifact"

// A Source opens a file of the artifact by its name.
type Source func(name string) (io.ReadCloser, error)

// level is the deflate level: higher levels take much longer and save little.
const level = 5

// written is the time of every file in the archive, the earliest that the format can store
// (APPNOTE.TXT, 4.4.6).
var written = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Write writes the module of an artifact: the scripts, sov-runner, and the files of the artifact
// that a slot contains. scratch is a folder for temporary files. The same content gives the same
// bytes.
func Write(ctx context.Context, w io.Writer, m *manifest.Manifest, files []manifest.File, open Source, scratch string) error {
	target, err := arch.Get(m.Arch)
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	a := &archive{ctx, z, scratch}
	for _, f := range []struct{ name, asset string }{
		{"META-INF/com/google/android/update-binary", "update-binary"},
		{"customize.sh", "customize.sh"}, {"service.sh", "service.sh"}, {"boot-completed.sh", "boot-completed.sh"}, {"uninstall.sh", "uninstall.sh"},
	} {
		text, err := assets.Module.ReadFile("module/" + f.asset)
		if err != nil {
			return err
		}
		if err := a.add(f.name, 0o755, bytes.NewReader(text)); err != nil {
			return err
		}
	}
	for _, f := range []struct{ name, text string }{
		{"META-INF/com/google/android/updater-script", "#MAGISK\n"}, // by which Magisk recognises a module
		{"module.prop", properties(m, target)},
	} {
		if err := a.add(f.name, 0o644, strings.NewReader(f.text)); err != nil {
			return err
		}
	}
	if err := a.copy(artifact.RunnerFile, 0o755, artifact.RunnerFile, open); err != nil {
		return err
	}
	for _, f := range append([]manifest.File{{Name: artifact.ManifestFile}}, files...) {
		if err := a.copy(ArtifactFolder+"/"+f.Name, 0o644, f.Name, open); err != nil {
			return err
		}
	}
	return z.Close()
}

// properties returns module.prop, which the root manager displays. customize.sh reads sovArch.
func properties(m *manifest.Manifest, target arch.Arch) string {
	description := m.Description
	if description == "" {
		description = "a virtual machine"
	}
	line := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	return fmt.Sprintf("id=sov-%s\nname=sov: %s\nversion=%s\nversionCode=%d\nauthor=sov\ndescription=%s\nsovArch=%s\n",
		m.Name, m.Name, line(m.Version), versionCode(m.Version), line(description), target.Installer)
}

// versionCode returns the number at the start of a version, or 1. Root managers use it to recognise
// a newer version.
func versionCode(version string) int {
	n := 0
	for _, r := range strings.TrimPrefix(version, "v") {
		if r < '0' || r > '9' || n > 1e8 {
			break
		}
		n = n*10 + int(r-'0')
	}
	return max(n, 1)
}

// An archive is a zip file that is written.
type archive struct {
	ctx     context.Context
	z       *zip.Writer
	scratch string
}

func (a *archive) copy(name string, mode fs.FileMode, from string, open Source) error {
	src, err := open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return a.add(name, mode, src)
}

// add compresses a file before it writes the header, because unpackers on phones need the sizes in
// the header, not after the content.
func (a *archive) add(name string, mode fs.FileMode, from io.Reader) (err error) {
	packed, err := os.CreateTemp(a.scratch, "module-")
	if err != nil {
		return err
	}
	defer func() {
		packed.Close()
		os.Remove(packed.Name())
	}()
	sum := crc32.NewIEEE()
	deflate, err := flate.NewWriter(packed, level)
	if err != nil {
		return err
	}
	size, err := io.Copy(io.MultiWriter(deflate, sum), &cancelable{a.ctx, from})
	if err == nil {
		err = deflate.Close()
	}
	if err != nil {
		return fmt.Errorf("compress %s: %w", name, err)
	}
	length, err := packed.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = packed.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, CRC32: sum.Sum32(), CompressedSize64: uint64(length), UncompressedSize64: uint64(size)}
	h.SetMode(mode)
	h.ModifiedDate, h.ModifiedTime = dosTime(written) //nolint:staticcheck // CreateRaw writes these, and not Modified
	w, err := a.z.CreateRaw(h)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, packed)
	return err
}

// dosTime encodes a time in MS-DOS format, without the extension that Go's package would add.
func dosTime(t time.Time) (date, clock uint16) {
	return uint16(t.Day() + int(t.Month())<<5 + (t.Year()-1980)<<9), uint16(t.Second()/2 + t.Minute()<<5 + t.Hour()<<11)
}

// cancelable is a reader that ends with a context.
type cancelable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelable) Read(b []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
