package kernel

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/pipeline"
)

// debPrefix marks a source in a Debian package: "deb:NAME" or, in locks, "deb:NAME=VERSION".
const debPrefix = "deb:"

// maxArchive is the largest source archive, in bytes. Linux 6.1 has 138 MB, and 1.3 GB
// uncompressed.
const maxArchive = 2 << 30

// zstdWindow is the largest window of zstd's decoder, the default limit of zstd's command line tool
// too.
const zstdWindow = 128 << 20

// sourceLimit limits the uncompressed tar, which is about ten times as large as the xz archive.
var sourceLimit = bound.Limit{Bytes: 16 << 30, Free: 64 << 20, Ratio: 100}

// A getter fetches source archives.
type getter struct {
	fetch *fetch.Client
	task  *pipeline.Task
	tools toolchain
}

// archive writes the archive at a location (a path, a URL or deb:NAME) to f. It returns the exact
// location of the same archive.
func (g getter) archive(ctx context.Context, f *os.File, location string) (exact string, err error) {
	if name, ok := strings.CutPrefix(location, debPrefix); ok {
		version, err := g.debian(ctx, f, name)
		if err != nil {
			return "", err
		}
		name, _, _ = strings.Cut(name, "=")
		return debPrefix + name + "=" + version, nil
	}
	if !fetch.IsURL(location) {
		if info, err := os.Stat(location); err == nil && info.IsDir() {
			return "", fmt.Errorf("%s is a directory; pack it into an archive (git archive, or tar), so that the lock can name it by its SHA-256", location)
		}
		return location, g.fetch.File(ctx, f, location, maxArchive)
	}
	g.task.Step("download " + location)
	g.task.Total(0)
	stop := watchSize(g.task, f)
	defer stop()
	return location, g.fetch.File(ctx, f, location, maxArchive)
}

// watchSize reports the size of a growing file as progress until stop is called.
func watchSize(task *pipeline.Task, f *os.File) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for seen := int64(0); ; {
			if info, err := f.Stat(); err == nil {
				task.Add(info.Size() - seen)
				seen = info.Size()
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// A SourceChangedError says that the archive at a location differs from the lock.
type SourceChangedError struct {
	Source, Want, Got string // location; SHA-256 in hex
}

func (e *SourceChangedError) Error() string {
	return fmt.Sprintf("kernel source %s has SHA-256 %s, and the lock has %s: it is not what the lock was made with. "+
		"Find out why, or accept the present content with --update-lock", e.Source, e.Got, e.Want)
}

// fetchSource returns the locked archive, from the store if it has it.
func (s *build) fetchSource(ctx context.Context, j *pipeline.Job) (pipeline.Blob, error) {
	want := blobOf(s.Source)
	return j.Pin(ctx, "source "+string(want.Digest), pipeline.IsDigest(want.Digest), func(w *pipeline.Writer) error {
		if f, err := j.Open(want); err == nil {
			defer f.Close()
			_, err = io.Copy(w, f)
			return err
		}
		body, _, err := s.Bundle.Open(offline.KernelSource, s.Source.SHA256)
		if err == nil {
			defer body.Close()
			_, err = io.Copy(w, body)
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return getter{fetch: s.Fetch, task: j.Progress(), tools: s.toolchain()}.locked(ctx, w.File(), s.Source)
	})
}

// blobOf returns the blob of the archive in a lock.
func blobOf(k lock.Kernel) pipeline.Blob {
	return pipeline.Blob{Digest: pipeline.Digest("sha256:" + k.SHA256), Size: k.Size}
}

// FetchLocked ensures that the archive in a lock is in the store. It ignores the option Source.
func FetchLocked(ctx context.Context, o ResolveOptions, k lock.Kernel) (pipeline.Blob, error) {
	want := blobOf(k)
	if f, err := o.Store.Open(want); err == nil {
		return want, f.Close()
	}
	body, _, err := o.Bundle.Open(offline.KernelSource, k.SHA256)
	if err == nil {
		defer body.Close()
		return o.Store.Put(ctx, body)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return want, err
	}
	f, err := unnamedFile()
	if err != nil {
		return want, err
	}
	defer f.Close()
	get := newResolver(o).get
	if get.fetch = o.Fetch; get.fetch == nil {
		get.fetch = &fetch.Client{}
	}
	if err := get.locked(ctx, f, k); err != nil {
		return want, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return want, err
	}
	return o.Store.Put(ctx, f)
}

// locked writes the archive in a lock to f.
func (g getter) locked(ctx context.Context, f *os.File, k lock.Kernel) error {
	if _, err := g.archive(ctx, f, k.Source); err != nil {
		return fmt.Errorf("fetch the locked kernel source %s: %w (a build with a lock takes no other; a bundle or the cache of a computer that has built it has it; "+
			"sov lock RECIPE --update kernel takes what there is now)", k.Source, err)
	}
	got, err := fileSHA256(f)
	if err == nil && got != k.SHA256 {
		err = &SourceChangedError{k.Source, k.SHA256, got}
	}
	return err
}

func fileSHA256(f *os.File) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// uncompressed calls fn with the tar inside an archive, from offset 0. For xz it runs the xz
// program, which is several times as fast as the decoders in Go.
func (t toolchain) uncompressed(ctx context.Context, f io.ReaderAt, fn func(io.Reader) error) error {
	source := bound.NewSource(io.NewSectionReader(f, 0, maxArchive))
	in := bufio.NewReader(source)
	plain := func(r io.Reader) error { return fn(sourceLimit.Expanded(r, source)) }
	magic, err := in.Peek(6)
	if err != nil {
		return errors.New("not an archive: too short")
	}
	switch {
	case string(magic) == "\xfd7zXZ\x00":
		return t.unxz(ctx, in, plain)
	case string(magic[:2]) == "\x1f\x8b":
		r, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		return plain(r)
	case string(magic[:4]) == "\x28\xb5\x2f\xfd":
		r, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer r.Close()
		return plain(r)
	}
	return fn(in)
}

func (t toolchain) unxz(ctx context.Context, in io.Reader, fn func(io.Reader) error) error {
	xz, err := t.find("xz")
	if err != nil {
		return errors.New("uncompressing it needs xz; install with: apt-get install -y xz-utils")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, xz, "--decompress", "--stdout")
	cmd.Env = t.environment()
	cmd.Stdin = in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	plain := &endReader{r: out}
	err = fn(plain)
	if err != nil || !plain.ended {
		// fn has read enough. The resulting error of xz is ignored.
		cancel()
		_ = cmd.Wait()
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("xz: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// An endReader records whether its reader was read to the end.
type endReader struct {
	r     io.Reader
	ended bool
}

func (e *endReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.ended = e.ended || err == io.EOF
	return n, err
}

// sourceVersion reads a kernel's version ("6.1.192") from the top-level Makefile of its source, a
// tar with a single top directory.
func sourceVersion(plain io.Reader) (string, error) {
	const maxMakefile = 1 << 20
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return "", errors.New("not the source of a kernel: there is no Makefile in its top directory")
		}
		if err != nil {
			return "", fmt.Errorf("read archive: %w", err)
		}
		if _, name, _ := strings.Cut(strings.TrimPrefix(h.Name, "./"), "/"); name != "Makefile" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(tr, maxMakefile))
		if err != nil {
			return "", fmt.Errorf("read archive: %w", err)
		}
		return makefileVersion(string(text))
	}
}

// makefileVersion composes a version from the assignments at the start of the kernel's Makefile.
func makefileVersion(makefile string) (string, error) {
	part := map[string]string{}
	for line := range strings.Lines(makefile) {
		if name, value, ok := strings.Cut(line, "="); ok {
			name = strings.TrimSpace(name)
			if _, again := part[name]; !again {
				part[name] = strings.TrimSpace(value)
			}
		}
	}
	if part["VERSION"] == "" || part["PATCHLEVEL"] == "" {
		return "", errors.New("not the source of a kernel: its Makefile has no VERSION and PATCHLEVEL")
	}
	version := part["VERSION"] + "." + part["PATCHLEVEL"]
	if part["SUBLEVEL"] != "" {
		version += "." + part["SUBLEVEL"]
	}
	version += part["EXTRAVERSION"]
	if !validVersion.MatchString(version) {
		return "", fmt.Errorf("not the source of a kernel: its Makefile says that it is version %.80q", version)
	}
	return version, nil
}

// validVersion is the accepted syntax of a kernel's version, which becomes part of the lock, of
// file names and of messages.
var validVersion = regexp.MustCompile(`^[0-9]{1,5}(\.[0-9]{1,5}){1,2}[A-Za-z0-9.+~_-]{0,64}$`)
