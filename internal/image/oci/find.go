package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/bound"
)

// A place is a source of images: a registry's repository, or a layout.
type place interface {
	// document returns an index, a manifest or a configuration; an error that wraps errAbsent if
	// the place does not have it.
	document(d v1.Descriptor) ([]byte, error)
	// layer opens the stored form of a layer.
	layer(d v1.Descriptor) (io.ReadCloser, error)
}

var errAbsent = errors.New("it is not there")

// Limits of the search for an image.
const (
	maxDocument   = 8 << 20 // bytes of a manifest, an index or a configuration
	maxDocuments  = 1000    // manifests and indexes
	maxIndexDepth = 4       // indexes within indexes; one level is usual
)

// A foundImage is an image in a place.
type foundImage struct {
	digest   string
	manifest []byte // nil: see the package comment
	config   []byte
	layers   []Layer  // DiffID is missing
	names    []string // its names in the place
}

// A search finds the image of a platform, or with a digest, in a place.
type search struct {
	place     place
	arch      string
	digest    string // of an index or a manifest; "": the first of the platform
	documents int
	platforms []string // of other images that were seen
	absent    bool     // an index lists an image of the platform that the place does not have
}

// find returns the image that a descriptor refers to, directly or through indexes, or nil if none
// matches.
func (s *search) find(d v1.Descriptor, depth int, digest string) (*foundImage, error) {
	isIndex := d.MediaType.IsIndex()
	if !isIndex && !d.MediaType.IsImage() && d.MediaType != types.MediaType("") {
		return nil, nil
	}
	if d.Digest.String() == digest {
		digest = ""
	} else if !isIndex && digest != "" {
		return nil, nil
	}
	named := !isIndex && d.Digest.String() == s.digest
	if !isIndex && !named && hasPlatform(d.Platform) && !matches(d.Platform, s.arch) {
		s.saw(d.Platform.OS, d.Platform.Architecture, d.Platform.Variant)
		return nil, nil
	}
	if depth > maxIndexDepth {
		return nil, fmt.Errorf("image indexes are nested deeper than %d levels", maxIndexDepth)
	}
	if s.documents++; s.documents > maxDocuments {
		return nil, fmt.Errorf("%w: there are more than %d manifests to read", bound.ErrTooLarge, maxDocuments)
	}
	raw, err := s.read(d)
	switch {
	case errors.Is(err, errAbsent):
		s.absent = s.absent || matches(d.Platform, s.arch)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	case !isIndex:
		return s.image(d, raw, named)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read image index %s: %w", d.Digest, err)
	}
	for _, inner := range index.Manifests {
		if found, err := s.find(inner, depth+1, digest); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// read returns a document after verifying its digest.
func (s *search) read(d v1.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, fmt.Errorf("it has %d bytes, at most %d are expected: %w", d.Size, int64(maxDocument), bound.ErrTooLarge)
	}
	if d.Digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("digest %s is not a SHA-256", d.Digest)
	}
	b, err := s.place.document(d)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != d.Digest.Hex {
		return nil, fmt.Errorf("it does not match its digest %s", d.Digest)
	}
	return b, nil
}

// image returns the image with a manifest. Unless the user named the image, or the index states its
// platform, its configuration must be for the platform.
func (s *search) image(d v1.Descriptor, raw []byte, named bool) (*foundImage, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	if m.Config.MediaType != "" && !m.Config.MediaType.IsConfig() {
		return nil, nil // an artifact, such as a signature
	}
	config, err := s.read(m.Config)
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	if !named && !hasPlatform(d.Platform) {
		c, err := v1.ParseConfigFile(bytes.NewReader(config))
		if err != nil {
			return nil, fmt.Errorf("read its configuration: %w", err)
		}
		if !isFor(c, s.arch) {
			s.saw(c.OS, c.Architecture, c.Variant)
			return nil, nil
		}
	}
	found := &foundImage{digest: d.Digest.String(), manifest: raw, config: config}
	for i, l := range m.Layers {
		layer, err := newLayer(l, func() (io.ReadCloser, error) { return s.place.layer(l) })
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(m.Layers), err)
		}
		found.layers = append(found.layers, layer)
	}
	return found, nil
}

func (s *search) saw(parts ...string) {
	name := strings.Trim(strings.Join(parts, "/"), "/")
	if name != "" && name != "unknown/unknown" && !slices.Contains(s.platforms, name) && len(s.platforms) < 20 {
		s.platforms = append(s.platforms, name)
	}
}

// missing returns the error if no image was found.
func (s *search) missing() error {
	if s.digest != "" {
		return errors.New("there is no image " + s.digest)
	}
	if s.absent {
		return fmt.Errorf("the index names an image for linux/%s, but that image is not stored here: save it with --platform linux/%s", s.arch, s.arch)
	}
	err := fmt.Errorf("there is no image for linux/%s", s.arch)
	if len(s.platforms) > 0 {
		err = fmt.Errorf("%w, only for %s", err, strings.Join(s.platforms, ", "))
	}
	return err
}

// hasPlatform reports whether an index states the platform of an image. Some builders write
// "platform": {}.
func hasPlatform(p *v1.Platform) bool { return p != nil && p.OS != "" && p.Architecture != "" }

// matches reports whether a platform in an index is the requested one. Variants of arm64 are
// ignored: all supported phones have v8. Variants of amd64 beyond v1 require newer processors and
// do not match.
func matches(p *v1.Platform, goarch string) bool {
	if !hasPlatform(p) || p.OS != "linux" || goArch(p.Architecture) != goarch {
		return false
	}
	switch goarch {
	case arch.ARM64:
		return p.Variant == "" || strings.HasPrefix(p.Variant, "v8")
	case arch.AMD64:
		return p.Variant == "" || p.Variant == "v1"
	}
	return true
}

// isFor reports whether a configuration is for a platform. A configuration without one matches.
func isFor(c *v1.ConfigFile, goarch string) bool {
	return (c.OS == "" || c.OS == "linux") && (c.Architecture == "" || goArch(c.Architecture) == goarch)
}

// goArch returns Go's name of an architecture. Some builders write the name of uname(1).
func goArch(name string) string {
	if a, err := arch.OfUname(name); err == nil {
		return a.Go
	}
	return name
}

// choose returns the image if all found ones are the same, under any number of names, and an error
// otherwise.
func choose(ref Reference, found []*foundImage) (*foundImage, error) {
	var distinct []*foundImage
	for _, f := range found {
		if i := slices.IndexFunc(distinct, func(d *foundImage) bool { return d.digest == f.digest }); i < 0 {
			distinct = append(distinct, f)
		} else {
			distinct[i].names = append(distinct[i].names, f.names...)
		}
	}
	if len(distinct) == 1 {
		return distinct[0], nil
	}
	var choices []string
	for _, f := range distinct {
		choice := ref.place + "@" + f.digest
		if len(f.names) > 0 {
			choice = ref.place + ":" + f.names[0]
		}
		choices = append(choices, choice)
	}
	const most = 20
	if len(choices) > most {
		choices = append(choices[:most], fmt.Sprintf("or one of %d others", len(choices)-most))
	}
	return nil, fmt.Errorf("it has %d images for the platform: write %s", len(distinct), strings.Join(choices, ", "))
}

// isNamed reports whether a tag selects an image: it is one of the image's names, or the tag of
// one.
func isNamed(names []string, tag string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		if n == tag || n[strings.LastIndex(n, ":")+1:] == tag {
			return true
		}
		a, err := name.ParseReference(n)
		if err != nil {
			return false
		}
		b, err := name.ParseReference(tag)
		return err == nil && strings.ContainsAny(tag, ":/") && a.Name() == b.Name()
	})
}

// noSuchName returns an error that lists the existing names.
func noSuchName(tag string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("it has no image %q, and its images have no names: leave the tag out", tag)
	}
	slices.Sort(names)
	return fmt.Errorf("it has no image %q; there are %s", tag, strings.Join(slices.Compact(names), ", "))
}
