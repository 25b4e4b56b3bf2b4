package oci

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sovereign-sql/sov/internal/fetch"
)

// Options configure the access to images.
type Options struct {
	Transport http.RoundTripper // nil: fetch.NewTransport(fetch.DefaultTimeouts)
	Keychain  authn.Keychain    // nil: Docker's configuration, credential helpers included
	Mirrors   []string          // registries tried before Docker Hub; see DockerMirrors
	Pause     time.Duration     // before a second try after a temporary error; 0: the default of fetch.Retry
}

// An Image is the image of one platform. Its layers can be read any number of times. It need not be
// closed.
type Image struct {
	Reference string // as requested
	Digest    string // "sha256:…", see the package comment
	Arch      string // "arm64" or "amd64"
	Manifest  []byte // the original bytes; nil for the output of docker save, see the package comment
	Config    []byte // the configuration, JSON
	Layers    []Layer
}

// Open finds an image for linux and an architecture (Go's name). If digest is not empty, it finds
// the image with that digest and ignores the tag.
func Open(ctx context.Context, ref Reference, arch, digest string, o Options) (*Image, error) {
	img, err := find(ctx, ref, arch, digest, o)
	if err == nil && digest != "" && img.digest != digest {
		err = fmt.Errorf("it is %s now, not %s", img.digest, digest)
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

func find(ctx context.Context, ref Reference, arch, digest string, o Options) (*foundImage, error) {
	if ref.Kind == Registry {
		return openRegistry(ctx, ref, arch, digest, o)
	}
	open := openTarball
	if ref.Kind == Layout {
		open = openLayout
	}
	img, err := open(ref, arch, cmp.Or(digest, ref.Digest))
	if err == nil || digest == "" {
		return img, err
	}
	// The locked image does not exist. If another image does, the folder was changed, not damaged.
	if now, other := open(ref, arch, ref.Digest); other == nil && now.digest != digest {
		return nil, fmt.Errorf("the image in %s has changed: it is %s now, and the lock has %s: put the old one back, or take the new one with --update-lock",
			ref.Path, now.digest, digest)
	}
	return nil, fmt.Errorf("%w: restore it, or accept the present content with --update-lock", err)
}

// Remote returns options for package remote that apply o to a registry. Operations are tried once:
// callers retry, with fetch.Retry and ExplainAnswer.
func (o Options) Remote(ctx context.Context, registry name.Registry) []remote.Option {
	return []remote.Option{
		remote.WithContext(fetch.WithOrigin(ctx, registry.RegistryStr())),
		remote.WithTransport(o.RoundTripper()),
		remote.WithAuthFromKeychain(o.keychain()),
		// Whole operations are retried here, with a known limit.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithUserAgent("sov"),
	}
}

// RoundTripper returns the transport. It uses plain HTTP only for registries on this computer.
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

// Client returns an HTTP client that is authenticated to pull from a repository, for requests that
// package remote does not support, such as for the rest of a blob.
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

// ExplainAnswer wraps a registry's error so that fetch.Passing recognises it, and adds advice to
// common ones.
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

// describe reads the image's configuration and checks its architecture.
func describe(img *foundImage, arch string, pause time.Duration) (*Image, error) {
	config, err := v1.ParseConfigFile(bytes.NewReader(img.config))
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	if !isFor(config, arch) {
		return nil, fmt.Errorf("the image is for %s/%s", config.OS, config.Architecture)
	}
	if len(img.layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("the manifest has %d layers, the configuration %d", len(img.layers), len(config.RootFS.DiffIDs))
	}
	out := &Image{Digest: img.digest, Arch: arch, Manifest: img.manifest, Config: img.config, Layers: img.layers}
	for i, id := range config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" {
			return nil, fmt.Errorf("layer %d of %d: diff ID %s is not a SHA-256", i+1, len(out.Layers), id)
		}
		out.Layers[i].DiffID, out.Layers[i].pause = id.String(), pause
	}
	return out, nil
}
