package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// Media types in a registry.
const (
	artifactType = "application/vnd.sov.cache.v1"
	indexType    = types.MediaType("application/vnd.sov.cache.index.v1+json")
	pieceType    = types.MediaType("application/vnd.sov.cache.piece.v1+zstd")
)

// maxEmbedded is the size of an index, in bytes, up to which the manifest embeds it too. Registries
// take manifests of 4 MiB, and base64 makes three bytes four.
const maxEmbedded = 1 << 20

// DefaultPatience is how long a registry may send nothing.
const DefaultPatience = 10 * time.Second

// leastRate is the minimum speed of each parallel transfer, in bytes per second.
const leastRate = 64 << 10

// attempts is the number of tries. With the pauses of fetch.Retry, that covers about three seconds
// of a registry's restart.
const attempts = 4

// RegistryOptions configure the client of a registry.
type RegistryOptions struct {
	// Patience is how long a connection, a response or a byte of it may take; 0 means
	// DefaultPatience. An operation fails after four times Patience.
	Patience  time.Duration
	Pause     time.Duration     // before a second try; 0: the default of fetch.Retry
	Transport http.RoundTripper // nil: one with Patience
	Keychain  authn.Keychain    // nil: no credentials
}

// Registry returns the cache in a repository, such as "registry.example.com/team/sov-cache". It has
// no tag: keys are the tags.
func Registry(repository string, o RegistryOptions) (*PieceCache, error) {
	repo, err := name.NewRepository(repository)
	if err != nil {
		return nil, fmt.Errorf("remote cache %q: %w; write HOST/REPOSITORY, without a tag", repository, err)
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Transport == nil {
		o.Transport = fetch.NewTransport(fetch.Timeouts{Connect: o.Patience, Header: o.Patience, Idle: o.Patience})
	}
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain() // anonymous
	}
	return newCache(repo.Name(), &registry{repo: repo, options: o}), nil
}

type registry struct {
	repo    name.Repository
	options RegistryOptions

	mu sync.Mutex
	// Both keep their authentication and their last error. After an error they are re-created.
	puller *remote.Puller
	pusher *remote.Pusher
}

func (r *registry) remoteOptions() []remote.Option {
	return []remote.Option{
		remote.WithTransport(fetch.LoopbackHTTP(r.options.Transport)),
		remote.WithAuthFromKeychain(r.options.Keychain),
		// Whole operations are retried here, with a known limit.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithUserAgent("sov"),
	}
}

// clients returns the clients that read and write.
func (r *registry) clients() (*remote.Puller, *remote.Pusher, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.puller != nil {
		return r.puller, r.pusher, nil
	}
	puller, err := remote.NewPuller(r.remoteOptions()...)
	if err != nil {
		return nil, nil, err
	}
	pusher, err := remote.NewPusher(r.remoteOptions()...)
	if err != nil {
		return nil, nil, err
	}
	r.puller, r.pusher = puller, pusher
	return puller, pusher, nil
}

// try calls fn up to attempts times until it succeeds. Each try may take as long as size bytes may
// take.
func (r *registry) try(ctx context.Context, size int64, fn func(context.Context, *remote.Puller, *remote.Pusher) error) error {
	limit := 2*r.options.Patience + time.Duration(size)*time.Second/leastRate
	return fetch.Retry(ctx, attempts, r.options.Pause, func() error {
		within, cancel := context.WithTimeoutCause(ctx, limit, tooSlow(limit))
		defer cancel()
		within = fetch.WithOrigin(within, r.repo.RegistryStr())
		puller, pusher, err := r.clients()
		if err != nil {
			return err
		}
		err = explain(fn(within, puller, pusher))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.mu.Lock()
			r.puller, r.pusher = nil, nil
			r.mu.Unlock()
		}
		if err != nil && within.Err() != nil && ctx.Err() == nil {
			err = context.Cause(within)
		}
		return err
	})
}

// tooSlow says how long an operation took without success. A second try would take as long.
type tooSlow time.Duration

func (e tooSlow) Error() string {
	return fmt.Sprintf("it is too slow: not done within %s", time.Duration(e).Round(time.Second))
}

// An awayError is a refused or broken connection. It is temporary, like a timeout (see
// fetch.Passing): the registry may be about to start.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Timeout() bool { return true }

func isAway(err error) bool {
	var request *url.Error
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &request) && !errors.As(err, &name) && !errors.As(err, &certificate) &&
		!errors.Is(err, fetch.ErrInsecure) && !errors.Is(err, fetch.ErrLocal) && !errors.Is(err, context.Canceled)
}

// explain adds advice to a registry's error and wraps it so that fetch.Passing recognises it.
func explain(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		if isAway(err) {
			return &awayError{err}
		}
		return err
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return fs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (it needs other credentials: `docker login`, or see docs/ci.md)", err)
	}
	return fmt.Errorf("%w: %w", err, &fetch.StatusError{
		URL: "the registry", Code: answer.StatusCode, Status: http.StatusText(answer.StatusCode)})
}

func (r *registry) keys(ctx context.Context) (keys []string, err error) {
	err = r.try(ctx, maxIndex, func(ctx context.Context, puller *remote.Puller, _ *remote.Pusher) error {
		tags, err := puller.List(ctx, r.repo)
		keys = nil
		for _, tag := range tags {
			if keyOf(indexName(tag)) != "" {
				keys = append(keys, tag)
			}
		}
		return err
	})
	return keys, err
}

// A manifest has the fields of an artifact's manifest that are used here.
type manifest struct {
	ArtifactType string        `json:"artifactType"`
	Config       v1.Descriptor `json:"config"`
}

func (r *registry) index(ctx context.Context, key string) (encoded []byte, err error) {
	err = r.try(ctx, maxEmbedded, func(ctx context.Context, puller *remote.Puller, _ *remote.Pusher) error {
		got, err := puller.Get(ctx, r.repo.Tag(key))
		if err != nil {
			return err
		}
		var m manifest
		if err := json.Unmarshal(got.Manifest, &m); err != nil {
			return fmt.Errorf("%w: decode its manifest: %w", ErrRefused, err)
		}
		if m.ArtifactType != artifactType || m.Config.MediaType != indexType {
			return fmt.Errorf("%w: its manifest belongs to something else", ErrRefused)
		}
		encoded = m.Config.Data
		if encoded == nil {
			encoded, err = r.read(ctx, puller, m.Config.Digest, maxIndex)
		}
		if err == nil && string(store.DigestOf(encoded)) != m.Config.Digest.String() {
			err = fmt.Errorf("%w: its index does not have the digest that its manifest says", ErrRefused)
		}
		return err
	})
	return encoded, err
}

func (r *registry) piece(ctx context.Context, p piece) (stored []byte, err error) {
	digest, err := v1.NewHash(string(p.Digest))
	if err != nil {
		return nil, err
	}
	err = r.try(ctx, p.Size, func(ctx context.Context, puller *remote.Puller, _ *remote.Pusher) error {
		stored, err = r.read(ctx, puller, digest, p.Size)
		return err
	})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: piece %s is truncated after %d of %d bytes", ErrRefused, p.Digest.Short(), len(stored), p.Size)
	}
	return stored, err
}

// read returns a blob of the registry of at most limit bytes. The caller checks its digest.
func (r *registry) read(ctx context.Context, puller *remote.Puller, digest v1.Hash, limit int64) ([]byte, error) {
	layer, err := puller.Layer(ctx, r.repo.Digest(digest.String()))
	if err != nil {
		return nil, err
	}
	body, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := readAtMost(body, limit)
	// At the end the library compares digests. An error that is not a network error means that they
	// differ.
	if err != nil && ctx.Err() == nil && !fetch.Passing(err) && !fetch.Unreachable(err) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return b, err
}

func (r *registry) putPiece(ctx context.Context, p piece, stored []byte) (sent bool, err error) {
	l, err := newLayer(stored, pieceType)
	if err != nil {
		return false, err
	}
	err = r.try(ctx, p.Size, func(ctx context.Context, _ *remote.Puller, pusher *remote.Pusher) error {
		return pusher.Upload(ctx, r.repo, l)
	})
	return l.read, err
}

func (r *registry) putIndex(ctx context.Context, key string, encoded []byte, pieces []piece) error {
	config, err := newLayer(encoded, indexType)
	if err != nil {
		return err
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config.descriptor, Layers: []v1.Descriptor{}}
	if len(encoded) <= maxEmbedded {
		m.Config.Data = encoded
	}
	for _, p := range pieces {
		digest, err := v1.NewHash(string(p.Digest))
		if err != nil {
			return err
		}
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: pieceType, Digest: digest, Size: p.Size})
	}
	raw, err := json.Marshal(struct {
		v1.Manifest
		ArtifactType string `json:"artifactType"`
	}{m, artifactType})
	if err != nil {
		return err
	}
	return r.try(ctx, int64(len(raw)+len(encoded)), func(ctx context.Context, _ *remote.Puller, pusher *remote.Pusher) error {
		if err := pusher.Upload(ctx, r.repo, config); err != nil {
			return err
		}
		return pusher.Put(ctx, r.repo.Tag(key), rawManifest(raw))
	})
}

// A rawManifest is a manifest as it goes over the wire.
type rawManifest []byte

// RawManifest implements remote.Taggable.
func (m rawManifest) RawManifest() ([]byte, error) { return m, nil }

// MediaType is asked for by package remote.
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// A layer is the content that package remote uploads.
type layer struct {
	content    []byte
	descriptor v1.Descriptor
	read       bool // the registry did not have it
}

func newLayer(content []byte, mediaType types.MediaType) (*layer, error) {
	digest, err := v1.NewHash(string(store.DigestOf(content)))
	if err != nil {
		return nil, err
	}
	return &layer{content: content, descriptor: v1.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(content))}}, nil
}

// Digest, and what follows, implement v1.Layer.
func (l *layer) Digest() (v1.Hash, error) { return l.descriptor.Digest, nil }

// DiffID returns the digest of the stored form, which is not unpacked.
func (l *layer) DiffID() (v1.Hash, error) { return l.descriptor.Digest, nil }

// Compressed returns the stored form.
func (l *layer) Compressed() (io.ReadCloser, error) {
	l.read = true
	return io.NopCloser(bytes.NewReader(l.content)), nil
}

// Uncompressed returns the stored form.
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }

// Size returns the size of the stored form in bytes.
func (l *layer) Size() (int64, error) { return l.descriptor.Size, nil }

// MediaType returns the media type of the stored form.
func (l *layer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }
