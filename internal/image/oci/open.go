package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/fetch"
)

// Options say how images are reached.
type Options struct {
	Transport http.RoundTripper // nil: fetch.NewTransport(fetch.DefaultTimeouts)
	Keychain  authn.Keychain    // nil: Docker's configuration, credential helpers included
	Mirrors   []string          // registries asked before Docker Hub; see DockerMirrors
	Pause     time.Duration     // before a second try after a passing fault; 0: as fetch.Retry has it
}

// An Image is the image of one platform. Its layers can be read as often as
// wanted; the Image needs no closing.
type Image struct {
	Reference string // as it was asked for
	Digest    string // "sha256:…", see the package comment
	Arch      string // "arm64" or "amd64"
	Manifest  []byte // as it is kept; nil for what docker save wrote, see the package comment
	Config    []byte // the configuration, JSON
	Layers    []Layer
}

// Open finds an image for linux and an architecture as Go names it. A non-empty
// digest must be the image's; a registry is then asked for it by that digest,
// whatever the tag has come to mean.
func Open(ctx context.Context, ref Reference, arch, digest string, o Options) (*Image, error) {
	img, err := find(ctx, ref, arch, digest, o)
	if err == nil && digest != "" && img.id != digest {
		err = fmt.Errorf("it is %s now, not %s", img.id, digest)
	}
	var out *Image
	if err == nil {
		out, err = describe(img, arch, o.Pause)
	}
	if err != nil {
		return nil, fmt.Errorf("open image %s for linux/%s: %w", ref, arch, err)
	}
	out.Reference = ref.String()
	return out, nil
}

// A foundImage is an image, what kind of place it is in, and its digest.
type foundImage struct {
	v1.Image
	kind Kind
	id   string
}

func find(ctx context.Context, ref Reference, arch, digest string, o Options) (foundImage, error) {
	switch ref.Kind {
	case Layout:
		return openLayout(ref.Path, arch, digest)
	case Tarball:
		return openTarball(ref.Path, arch, digest)
	}
	return openRegistry(ctx, ref, arch, digest, o)
}

// withDigest completes a foundImage whose identity is its manifest's digest.
func withDigest(img v1.Image, kind Kind) (foundImage, error) {
	id, err := img.Digest()
	return foundImage{img, kind, id.String()}, err
}

func openRegistry(ctx context.Context, ref Reference, arch, digest string, o Options) (foundImage, error) {
	var errs []error
	for _, candidate := range candidates(ref.Name, digest, o.Mirrors) {
		var img v1.Image
		err := fetch.Retry(ctx, 0, o.Pause, func() (err error) {
			img, err = remote.Image(candidate, remoteOptions(ctx, candidate.Context().Registry, arch, o)...)
			return ExplainAnswer(err)
		})
		if err == nil {
			return withDigest(img, Registry)
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
	return foundImage{}, err
}

func remoteOptions(ctx context.Context, registry name.Registry, arch string, o Options) []remote.Option {
	return append(o.Remote(ctx, registry), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
}

// Remote returns what has package remote reach a registry as these options say.
// Its operations are tried once: callers retry, with fetch.Retry and
// ExplainAnswer.
func (o Options) Remote(ctx context.Context, registry name.Registry) []remote.Option {
	return []remote.Option{
		remote.WithContext(fetch.WithOrigin(ctx, registry.RegistryStr())),
		remote.WithTransport(o.RoundTripper()),
		remote.WithAuthFromKeychain(o.keychain()),
		// Whole operations are retried here, with a limit that is known.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithUserAgent("sov"),
	}
}

// RoundTripper is the transport, which speaks plain HTTP to this computer only.
func (o Options) RoundTripper() http.RoundTripper {
	if o.Transport == nil {
		return fetch.LoopbackHTTP(fetch.NewTransport(fetch.DefaultTimeouts))
	}
	return fetch.LoopbackHTTP(o.Transport)
}

func (o Options) keychain() authn.Keychain {
	if o.Keychain == nil {
		return authn.DefaultKeychain
	}
	return o.Keychain
}

// Client returns an HTTP client that is logged in to a repository and may pull
// from it, for what package remote does not do, such as asking for the rest of
// a blob.
func (o Options) Client(ctx context.Context, repository name.Repository) (*http.Client, error) {
	auth, err := authn.Resolve(ctx, o.keychain(), repository)
	if err != nil {
		return nil, fmt.Errorf("find credentials for %s: %w", repository, err)
	}
	t, err := transport.NewWithContext(fetch.WithOrigin(ctx, repository.RegistryStr()), repository.Registry, auth, o.RoundTripper(), []string{repository.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

// ExplainAnswer turns a registry's error into one that fetch.Passing knows, with
// what to do about the common ones.
func ExplainAnswer(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (not there, or it needs credentials: docker login)", err)
	case http.StatusNotFound:
		return fmt.Errorf("not there: %w", err)
	}
	return fmt.Errorf("%w: %w", err, &fetch.StatusError{
		URL: requestURL(answer), Code: answer.StatusCode, Status: http.StatusText(answer.StatusCode)})
}

func requestURL(e *transport.Error) string {
	if e.Request == nil || e.Request.URL == nil {
		return "registry"
	}
	return e.Request.URL.Redacted()
}

// describe reads what the image says about itself and checks that it is one for
// the architecture.
func describe(img foundImage, arch string, pause time.Duration) (*Image, error) {
	if img.kind == Registry {
		m, err := img.Image.Manifest()
		if err != nil {
			return nil, fmt.Errorf("read its manifest: %w", err)
		}
		if m.Config.Size > maxDocument {
			return nil, fmt.Errorf("its configuration has %d bytes, at most %d are expected: %w", m.Config.Size, int64(maxDocument), bound.ErrTooLarge)
		}
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	if config.OS != "linux" || config.Architecture != arch {
		return nil, fmt.Errorf("the image is for %s/%s", config.OS, config.Architecture)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("list its layers: %w", err)
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("the manifest has %d layers, the configuration %d", len(layers), len(config.RootFS.DiffIDs))
	}
	out := &Image{Digest: img.id, Arch: arch, Config: raw}
	if img.kind != dockerArchive {
		if out.Manifest, err = img.RawManifest(); err != nil {
			return nil, fmt.Errorf("read its manifest: %w", err)
		}
	}
	for i, l := range layers {
		layer, err := newLayer(l, config.RootFS.DiffIDs[i], img.kind)
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
		layer.pause = pause
		out.Layers = append(out.Layers, layer)
	}
	return out, nil
}

// matches reports whether a platform in an index is the one wanted. Variants
// of arm64 are one for us: all we build for has v8.
func matches(p *v1.Platform, arch string) bool {
	return p != nil && p.OS == "linux" && p.Architecture == arch && (p.Variant == "" || arch != "arm64" || strings.HasPrefix(p.Variant, "v8"))
}
