package writers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"

	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A Maker makes a file from a corpus.
type Maker struct {
	Name string
	// Programs that it runs. If one is missing, the maker is omitted.
	Programs []string
	// Make writes the image to out, which does not exist. scratch is an empty directory.
	Make func(c Corpus, out, scratch string) error
}

// Makers returns all makers. The first is the plain copy, the second is ours.
func Makers() []Maker {
	return []Maker{
		{Name: "copy", Make: copyTar},
		{Name: "sov", Make: makeSov},
		{Name: "hcsshim tar2ext4", Make: makeTar2ext4},
		{Name: "go-diskfs", Make: makeDiskfs},
		{Name: "untar, mke2fs -d", Programs: []string{"tar", "mke2fs"}, Make: makeMke2fs},
		{Name: "genext2fs -a", Programs: []string{"genext2fs"}, Make: makeGenext2fs},
	}
}

// Available reports whether the maker's programs are installed.
func (m Maker) Available() bool {
	for _, program := range m.Programs {
		if _, err := exec.LookPath(program); err != nil {
			return false
		}
	}
	return true
}

func copyTar(c Corpus, out, _ string) error {
	return withFiles(c, out, func(src, dst *os.File) error {
		_, err := io.Copy(dst, src)
		return err
	})
}

func makeSov(c Corpus, out, _ string) error {
	return withFiles(c, out, func(src, dst *os.File) error {
		info, err := src.Stat()
		if err != nil {
			return err
		}
		t := tree.New()
		if err := t.ApplyTar(src, info.Size(), tree.TarOptions{}); err != nil {
			return err
		}
		_, err = ext4.Write(context.Background(), dst, t, ext4.Options{})
		return err
	})
}

func makeTar2ext4(c Corpus, out, _ string) error {
	return withFiles(c, out, func(src, dst *os.File) error { return tar2ext4.Convert(src, dst) })
}

// makeDiskfs uses go-diskfs without owners and times, which would only make it slower.
func makeDiskfs(c Corpus, out, _ string) error {
	size := imageSize(c)
	backend, err := file.CreateFromPath(out, size)
	if err != nil {
		return err
	}
	defer backend.Close()
	fs, err := diskfs.Create(backend, size, 0, 512, &diskfs.Params{InodeCount: uint32(c.Entries * 2)})
	if err != nil {
		return err
	}
	src, err := os.Open(c.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	for r := tar.NewReader(src); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fs.Close()
		}
		if err == nil {
			err = addToDiskfs(fs, h, r)
		}
		if err != nil {
			return fmt.Errorf("go-diskfs: %w", err)
		}
	}
}

func addToDiskfs(fs *diskfs.FileSystem, h *tar.Header, r io.Reader) error {
	name := strings.TrimSuffix(h.Name, "/")
	switch h.Typeflag {
	case tar.TypeDir:
		return fs.Mkdir(name)
	case tar.TypeSymlink:
		return fs.Symlink(h.Linkname, name)
	}
	f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Close()
}

func makeMke2fs(c Corpus, out, scratch string) error {
	if err := run("tar", "-xf", c.Path, "-C", scratch); err != nil {
		return err
	}
	return run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-N", strconv.Itoa(c.Entries+100),
		"-E", "root_owner=0:0", "-d", scratch, out, strconv.FormatInt(imageSize(c)>>10, 10)+"k")
}

func makeGenext2fs(c Corpus, out, scratch string) error {
	return run("genext2fs", "-B", "4096", "-b", strconv.FormatInt(imageSize(c)>>12, 10), "-N", strconv.Itoa(c.Entries+100),
		"-a", c.Path, filepath.Clean(out))
}

// imageSize returns a size that is sufficient for the corpus with any writer.
func imageSize(c Corpus) int64 {
	return (c.Bytes + int64(c.Entries)*6144 + 32<<20) &^ (1<<20 - 1)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func withFiles(c Corpus, out string, fn func(src, dst *os.File) error) error {
	src, err := os.Open(c.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(fn(src, dst), dst.Close())
}
