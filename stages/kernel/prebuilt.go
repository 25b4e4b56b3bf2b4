package kernel

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sovereign-sql/sov/internal/image/kconfig"
	guest "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
)

// prebuilt is the stage that uses a finished image. A compressed image, as arm64 distributions
// ship, is stored uncompressed: crosvm accepts only that.
type prebuilt struct {
	Options
}

func (prebuilt) Name() string    { return Name }
func (prebuilt) Needs() []string { return nil }

func (s prebuilt) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	f, err := os.Open(s.Prebuilt)
	if err != nil {
		return fmt.Errorf("open kernel image: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read kernel image %s: %w", s.Prebuilt, err)
	}
	k.Add("format", format)
	k.Add("arch", s.Arch)
	k.Add("image sha256", fmt.Sprintf("%x", h.Sum(nil)))
	k.Add("requirements", guest.Requirements(s.Arch, s.Features))
	return nil
}

func (s prebuilt) Run(_ context.Context, j *pipeline.Job) error {
	img, err := kconfig.OpenFile(s.Prebuilt)
	if err != nil {
		return err
	}
	_, err = finish(j, "kernel image "+s.Prebuilt, img, s.Features, Info{Arch: s.Arch})
	if errors.As(err, new(*guest.UnfitError)) {
		return fmt.Errorf("%w\nBuild it with these options set to y, or leave out --kernel to have sov build one", err)
	}
	return err
}
