// Package base is the stage that fetches a container image: the machine's base image, or an image
// that files are copied from. Its outputs are the verified and decompressed layers (layer-000.tar
// and so on), the image's manifest and configuration, and image.json, which describes the image.
package base

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the name of the base image's stage.
const Name = "base"

// copiedPrefix is the prefix of the names of the other images' stages.
const copiedPrefix = "image-"

// CopiedName returns the name of the stage of the i-th image, from 0, that the recipe copies files
// from.
func CopiedName(i int) string { return copiedPrefix + strconv.Itoa(i+1) }

// IsImage reports whether a stage fetches an image.
func IsImage(name string) bool { return name == Name || strings.HasPrefix(name, copiedPrefix) }

// Names of outputs besides the layers.
const (
	ImageFile    = "image.json"        // an Image
	ManifestFile = "oci-manifest.json" // not there for what docker save wrote
	ConfigFile   = "oci-config.json"
)

// LayerFile returns the name of a layer's output. The lowest layer is 0.
func LayerFile(i int) string { return fmt.Sprintf("layer-%03d.tar", i) }

// An Image describes the base image for later stages.
type Image struct {
	Digest  string          `json:"digest"`   // see package oci
	Arch    string          `json:"arch"`     // "arm64" or "amd64"
	DiffIDs []string        `json:"diff_ids"` // of the layers, the lowest first
	Config  json.RawMessage `json:"config"`   // the image's configuration
}

// Options say which image.
type Options struct {
	Stage     string // the stage's name; empty: Name
	Reference oci.Reference
	Digest    string // of the image for Arch; decides what the stage makes
	Arch      string
	Images    oci.Options
	Bundle    *offline.Bundle // used before the reference
}

// New returns the stage as a share. For an image that only files are copied from, use its Stage
// alone: its files are then not part of the root file system.
func New(o Options) overlay.Share {
	return overlay.Share{Stage: &stage{o}, ImageLayers: true, MayBeEmpty: true}
}

type stage struct{ Options }

func (s *stage) Name() string    { return cmp.Or(s.Stage, Name) }
func (s *stage) Needs() []string { return nil }

// Key does not include the reference: the digest identifies the image in any registry.
func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 2)
	k.Add("image", s.Digest)
	k.Add("arch", s.Arch)
	return nil
}

// parallelLayers is the number of layers that are fetched at once. Registries throttle clients that
// fetch many more.
const parallelLayers = 4

func (s *stage) Run(ctx context.Context, j *pipeline.Job) error {
	img, err := s.open(ctx)
	if err != nil {
		return err
	}
	scratch, err := j.Scratch()
	if err != nil {
		return err
	}
	j.Progress().Step("pull " + s.Reference.String())
	for _, l := range img.Layers {
		j.Progress().Grow(max(l.Size, 0))
	}
	blobs := make([]pipeline.Blob, len(img.Layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLayers)
	for i, l := range img.Layers {
		group.Go(func() (err error) {
			blobs[i], err = pull(ctx, j, l, filepath.Join(scratch, fmt.Sprint(i)))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.write(j, img, blobs)
}

func (s *stage) open(ctx context.Context) (*oci.Image, error) {
	config, err := s.Bundle.Bytes(offline.ImageConfig, s.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return oci.Open(ctx, s.Reference, s.Arch, s.Digest, s.Images)
	}
	if err != nil {
		return nil, err
	}
	manifest, err := s.Bundle.Bytes(offline.ImageManifest, s.Digest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	img, err := oci.Assemble(s.Digest, s.Arch, manifest, config, func(diffID string) (io.ReadCloser, int64, error) {
		return s.Bundle.Open(offline.Layer, diffID)
	})
	if err != nil {
		return nil, fmt.Errorf("take image %s from the bundle: %w", s.Reference, err)
	}
	return img, nil
}

// pull returns a layer's tar, from the cache if it has it.
func pull(ctx context.Context, j *pipeline.Job, l oci.Layer, tmp string) (pipeline.Blob, error) {
	return j.Pin(ctx, "layer "+l.DiffID, pipeline.IsDigest(pipeline.Digest(l.DiffID)), func(w *pipeline.Writer) error {
		f, err := os.Create(tmp)
		if err != nil {
			return err
		}
		defer os.Remove(tmp)
		defer f.Close()
		if err := l.Fetch(ctx, f, j.Progress().Add); err != nil {
			return err
		}
		if _, err := f.Seek(0, 0); err != nil {
			return err
		}
		return l.Decompress(w, f)
	})
}

// CheckPins follows the image's digest to its configuration and from there to its layers, and
// compares everything else with what the stage would write.
func (s *stage) CheckPins(outputs []pipeline.Output, open func(pipeline.Blob) (*os.File, error)) error {
	parts := map[string][]byte{ManifestFile: nil, ConfigFile: nil, ImageFile: nil}
	for _, o := range outputs {
		if _, ok := parts[o.Name]; !ok {
			continue
		}
		var err error
		if parts[o.Name], err = readPart(o, open); err != nil {
			return err
		}
	}
	img, err := oci.Assemble(s.Digest, s.Arch, parts[ManifestFile], parts[ConfigFile], func(string) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader("")), 0, nil
	})
	if err != nil {
		return err
	}
	about, err := output.JSON(describe(img))
	if err != nil {
		return err
	}
	var want []pipeline.Output
	for i, l := range img.Layers {
		want = append(want, pipeline.Output{Name: LayerFile(i), Blob: pipeline.Blob{Digest: pipeline.Digest(l.DiffID)}})
	}
	if img.Manifest != nil {
		want = append(want, pipeline.Output{Name: ManifestFile, Blob: pipeline.Blob{Digest: pipeline.DigestOf(img.Manifest)}})
	}
	want = append(want, pipeline.Output{Name: ConfigFile, Blob: pipeline.Blob{Digest: pipeline.DigestOf(img.Config)}},
		pipeline.Output{Name: ImageFile, Blob: pipeline.Blob{Digest: pipeline.DigestOf(about)}})
	return output.Compare(outputs, want)
}

// maxPart is the largest manifest or configuration, in bytes. Registries take manifests of 4 MiB.
const maxPart = 8 << 20

func readPart(o pipeline.Output, open func(pipeline.Blob) (*os.File, error)) ([]byte, error) {
	if o.Size > maxPart {
		return nil, fmt.Errorf("%s has %d bytes", o.Name, o.Size)
	}
	f, err := open(o.Blob)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	defer f.Close()
	return io.ReadAll(f)
}

// describe returns the description of an image.
func describe(img *oci.Image) Image {
	about := Image{Digest: img.Digest, Arch: img.Arch, Config: json.RawMessage(img.Config)}
	for _, l := range img.Layers {
		about.DiffIDs = append(about.DiffIDs, l.DiffID)
	}
	return about
}

func (s *stage) write(j *pipeline.Job, img *oci.Image, blobs []pipeline.Blob) error {
	for i, b := range blobs {
		if err := j.Attach(LayerFile(i), b); err != nil {
			return err
		}
	}
	if img.Manifest != nil {
		if _, err := j.Write(ManifestFile, img.Manifest); err != nil {
			return err
		}
	}
	if _, err := j.Write(ConfigFile, img.Config); err != nil {
		return err
	}
	return output.WriteJSON(j, ImageFile, describe(img))
}
