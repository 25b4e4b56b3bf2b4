package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/fetch"
)

func openRegistry(ctx context.Context, ref Reference, arch, digest string, o Options) (*foundImage, error) {
	var errs []error
	for _, candidate := range candidates(ref.Name, digest, o.Mirrors) {
		var img *foundImage
		err := fetch.Retry(ctx, 0, o.Pause, func() (err error) {
			img, err = findInRegistry(ctx, candidate, arch, o)
			return ExplainAnswer(err)
		})
		if err == nil {
			return img, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", candidate.Context().RegistryStr(), err))
		if ctx.Err() != nil {
			break
		}
	}
	err := errors.Join(errs...)
	if fetch.Unreachable(err) {
		err = fmt.Errorf("%w (no connection? --image takes the image from elsewhere: a mirror's HOST/REPOSITORY:TAG, oci:DIR or the path of a .tar)", err)
	}
	return nil, err
}

func findInRegistry(ctx context.Context, ref name.Reference, arch string, o Options) (*foundImage, error) {
	puller, err := remote.NewPuller(o.Remote(ctx, ref.Context().Registry)...)
	if err != nil {
		return nil, err
	}
	r := &repository{ctx: fetch.WithOrigin(ctx, ref.Context().RegistryStr()), name: ref.Context(), puller: puller}
	top, err := puller.Get(r.ctx, ref)
	if err != nil {
		return nil, err
	}
	if !top.MediaType.IsIndex() && !top.MediaType.IsImage() {
		return nil, fmt.Errorf("it is not an image, but %.80q", top.MediaType)
	}
	r.top = top
	s := &search{place: r, arch: arch}
	img, err := s.find(top.Descriptor, 0, "")
	if err == nil && img == nil {
		err = s.missing()
	}
	return img, err
}

// A repository is a place for a repository of a registry.
type repository struct {
	ctx    context.Context
	name   name.Repository
	puller *remote.Puller
	top    *remote.Descriptor // what the reference names
}

func (r *repository) document(d v1.Descriptor) ([]byte, error) {
	if d.Digest == r.top.Digest {
		return r.top.Manifest, nil
	}
	if d.MediaType.IsIndex() || d.MediaType.IsImage() {
		m, err := r.puller.Get(r.ctx, r.name.Digest(d.Digest.String()))
		if answer := new(transport.Error); errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%w: %w", errAbsent, err)
		}
		if err != nil {
			return nil, err
		}
		return m.Manifest, nil
	}
	body, err := r.layer(d)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return bound.ReadAll(body, maxDocument)
}

func (r *repository) layer(d v1.Descriptor) (io.ReadCloser, error) {
	l, err := r.puller.Layer(r.ctx, r.name.Digest(d.Digest.String()))
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}
