package formats

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/image/simg"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/rootfs"
)

// Names of the stages that make other formats of the root file system.
const (
	Simg = "simg"
	Zstd = "raw.zst"
)

// ImageFile returns the name of the root file system's file in a format.
func ImageFile(form string) string {
	if form == Simg {
		return "rootfs.simg"
	}
	return artifact.RootfsFile + ".zst"
}

// NewImage returns the stage that makes the root file system in a format.
func NewImage(form string) pipeline.Stage { return stage(form) }

type stage string

func (s stage) Name() string    { return string(s) }
func (s stage) Needs() []string { return []string{rootfs.Name} }

func (s stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 1)
	return nil
}

func (s stage) Run(_ context.Context, j *pipeline.Job) error {
	b, err := j.Output(rootfs.Name, artifact.RootfsFile)
	if err != nil {
		return err
	}
	image, err := j.Open(b)
	if err != nil {
		return err
	}
	defer image.Close()
	w, err := j.Create(ImageFile(string(s)))
	if err != nil {
		return err
	}
	defer w.Abort()
	switch s {
	case Simg:
		err = simg.Write(w, image, b.Size)
	case Zstd:
		err = compress(w, j.Progress().Reader(image))
	default:
		err = fmt.Errorf("format %q is not supported", string(s))
	}
	if err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// compress compresses the image with one goroutine, so that the output does not depend on the
// number of processors.
func compress(w io.Writer, image io.Reader) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, image); err != nil {
		return err
	}
	return z.Close()
}
