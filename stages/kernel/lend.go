package kernel

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/sovereign-sql/sov/internal/image/kconfig"
	guest "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
)

// A kernel's key includes the versions of the build tools, since they decide its bytes. A computer
// without the tools cannot compute that key. Therefore a build that compiles a kernel also stores
// (lends) it as a memo whose key includes everything but the tools, and a computer without the
// tools uses (borrows) any kernel under that key.

// errNotLinux is the error of compiling on another system.
var errNotLinux = errors.New("a kernel is compiled on Linux only: take it from a remote cache that a Linux computer has filled " +
	"(--cache-from; mode=max), or give a finished kernel with --kernel")

// canCompile reports whether the programs are installed. It runs in every build, so it does not
// test headers; check does.
func (t toolchain) canCompile() bool {
	if runtime.GOOS != "linux" {
		return false
	}
	for _, p := range t.programs() {
		if _, err := t.find(p.name); err != nil {
			return false
		}
	}
	return true
}

// loan returns the memo's key.
func (s *build) loan() (string, error) {
	fragments, err := guest.Fragments(s.Arch)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal([]any{format, s.Arch, sourceName(s.Source.Source), s.Source.Version, s.Source.SHA256, fragments, guest.KeyOptions(s.Arch)})
	if err != nil {
		return "", err
	}
	return "kernel, whatever compiled it " + string(pipeline.DigestOf(b)), nil
}

// lend stores a kernel for computers that cannot compile it, unless the memo exists.
func (s *build) lend(ctx context.Context, j *pipeline.Job, img *kconfig.Image, info Info) error {
	key, err := s.loan()
	if err != nil {
		return err
	}
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	_, err = j.Memo(ctx, key, func(w *pipeline.Writer) error {
		t := tar.NewWriter(w)
		for _, f := range []struct {
			name    string
			content []byte
		}{{InfoOutput, text}, {ImageOutput, img.Bytes}} {
			if err := t.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), Format: tar.FormatUSTAR}); err != nil {
				return err
			}
			if _, err := t.Write(f.content); err != nil {
				return err
			}
		}
		return t.Close()
	})
	return err
}

// borrow uses a kernel that another computer compiled. If none is cached, the error names the
// missing tools.
func (s *build) borrow(ctx context.Context, j *pipeline.Job) error {
	key, err := s.loan()
	if err != nil {
		return err
	}
	j.Progress().Step("look for a kernel that another computer has compiled")
	lent, err := j.Memo(ctx, key, func(*pipeline.Writer) error {
		if runtime.GOOS != "linux" {
			return errNotLinux
		}
		if err := s.toolchain().check(ctx); err != nil {
			return err
		}
		return errors.New("the tools that compile a kernel were not there a moment ago; build again")
	})
	if err != nil {
		return err
	}
	img, info, err := readLoan(j, lent)
	if err != nil {
		return fmt.Errorf("kernel from another computer: %w", err)
	}
	made := s.info(info.Compiler)
	made.Unconfined = info.Unconfined
	_, err = finish(j, "the kernel that another computer has built from "+s.Source.Source, img, guest.AllFeatures, made)
	return err
}

// maxLoan is the largest lent kernel, in bytes.
const maxLoan = 256 << 20

// readLoan reads what lend has written.
func readLoan(j *pipeline.Job, lent pipeline.Blob) (img *kconfig.Image, info Info, err error) {
	f, err := j.Open(lent)
	if err != nil {
		return nil, info, err
	}
	defer f.Close()
	t := tar.NewReader(io.LimitReader(f, maxLoan))
	if _, err := t.Next(); err != nil {
		return nil, info, err
	}
	if err := json.NewDecoder(t).Decode(&info); err != nil {
		return nil, info, err
	}
	if _, err := t.Next(); err != nil {
		return nil, info, err
	}
	b, err := io.ReadAll(t)
	if err != nil {
		return nil, info, err
	}
	img, err = kconfig.Open(b)
	return img, info, err
}
