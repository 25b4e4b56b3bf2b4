package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/fetch"
	guest "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
)

// reachable is how long kernel.org has to answer with a signature of one
// kilobyte before the next source is tried.
const reachable = 6 * time.Second

// ResolveOptions say where to look for the kernel's source.
type ResolveOptions struct {
	// Source is a path, a URL or "deb:NAME". Empty means kernel.org's
	// archive of the version that package kernel names, then Debian's
	// package, then the archive that the package leaves in /usr/src.
	Source string

	Store  *pipeline.Store // keeps the archive for the build
	Fetch  *fetch.Client   // nil: a client with defaults
	Bundle *offline.Bundle // used by FetchLocked before the network
	Task   *pipeline.Task  // shows progress, or nil
	Path   string          // $PATH, for xz, apt-get and dpkg-deb; empty: that of the process
}

// Resolve chooses the source archive of a build, puts it into the store and returns its entry for
// the lock.
func Resolve(ctx context.Context, o ResolveOptions) (lock.Kernel, error) {
	r := newResolver(o)
	if o.Source == "" {
		return r.first(ctx)
	}
	k, err := r.from(ctx, o.Source)
	if err != nil {
		return lock.Kernel{}, fmt.Errorf("kernel source %s: %w", o.Source, err)
	}
	return k, nil
}

func newResolver(o ResolveOptions) *resolver {
	r := &resolver{
		store:    o.Store,
		patience: reachable,
		verify:   verifySignature,
		get:      getter{fetch: o.Fetch, task: o.Task, tools: Options{Path: o.Path}.toolchain()},
	}
	if r.get.fetch == nil {
		r.get.fetch = &fetch.Client{}
	}
	r.get.fetch = r.get.fetch.Encrypted() // no digest is known yet
	return r
}

type resolver struct {
	store    *pipeline.Store
	get      getter
	patience time.Duration // for kernel.org to answer

	// verify checks the signature of a release.
	verify func(plain io.Reader, signature []byte) error
}

// first tries the default sources in order.
func (r *resolver) first(ctx context.Context) (lock.Kernel, error) {
	var failures []error
	for _, source := range []struct {
		name    string
		resolve func() (lock.Kernel, error)
	}{
		{"kernel.org", func() (lock.Kernel, error) { return r.release(ctx, guest.Version) }},
		{"Debian's " + guest.DebianPackage, func() (lock.Kernel, error) { return r.from(ctx, debPrefix+guest.DebianPackage) }},
		{guest.InstalledSource, func() (lock.Kernel, error) { return r.from(ctx, guest.InstalledSource) }},
	} {
		k, err := source.resolve()
		if err == nil {
			return k, nil
		}
		if ctx.Err() != nil {
			return lock.Kernel{}, ctx.Err()
		}
		// After a wrong signature or release the other sources are not tried.
		if errors.Is(err, ErrBadSignature) || errors.Is(err, ErrOtherVersion) {
			return lock.Kernel{}, fmt.Errorf("kernel source from %s: %w", source.name, err)
		}
		r.get.task.Logf("no kernel source from %s: %v", source.name, err)
		failures = append(failures, fmt.Errorf("  %s: %w", source.name, err))
	}
	return lock.Kernel{}, fmt.Errorf("no kernel source found; give one with --with-kernel-source PATH, URL or deb:NAME, or a finished kernel with --kernel. Tried:\n%w",
		errors.Join(failures...))
}

// from takes the archive at a location without verification: the lock will pin it.
func (r *resolver) from(ctx context.Context, location string) (lock.Kernel, error) {
	f, err := unnamedFile()
	if err != nil {
		return lock.Kernel{}, err
	}
	defer f.Close()
	exact, err := r.get.archive(ctx, f, location)
	if err != nil {
		return lock.Kernel{}, err
	}
	return r.keep(ctx, f, exact)
}

// ErrOtherVersion matches the error for an archive with a good signature and another release than
// the requested one, such as an older one with known vulnerabilities.
var ErrOtherVersion = errors.New("the archive holds another release; do not use it")

// release takes a release from kernel.org that a maintainer of the stable kernels has signed. The
// signature does not name the release, so release reads the version from the source.
func (r *resolver) release(ctx context.Context, version string) (lock.Kernel, error) {
	signature, err := r.signature(ctx, guest.SignatureURL(version))
	if err != nil {
		return lock.Kernel{}, err
	}
	f, err := unnamedFile()
	if err != nil {
		return lock.Kernel{}, err
	}
	defer f.Close()
	url := guest.SourceURL(version)
	if _, err := r.get.archive(ctx, f, url); err != nil {
		return lock.Kernel{}, err
	}
	r.get.task.Step("verify the signature")
	err = r.get.tools.uncompressed(ctx, f, func(plain io.Reader) error {
		return r.verify(plain, signature)
	})
	if err != nil {
		return lock.Kernel{}, fmt.Errorf("%s: %w", url, err)
	}
	k, err := r.keep(ctx, f, url)
	if err == nil && k.Version != version {
		err = fmt.Errorf("%s: %w: it is Linux %s, not %s", url, ErrOtherVersion, k.Version, version)
	}
	return k, err
}

// unnamedFile creates an unlinked temporary file: its space is freed when it is closed, even if the
// process is killed.
func unnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "sov-kernel-source-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// signature fetches a signature within r.patience.
func (r *resolver) signature(ctx context.Context, url string) ([]byte, error) {
	r.get.task.Step("ask kernel.org")
	within, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	once := *r.get.fetch
	once.Attempts = 1
	const maxSignature = 64 << 10
	b, err := once.Bytes(within, url, maxSignature)
	if within.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%s: no answer within %s", url, r.patience)
	}
	return b, err
}

// keep puts an archive into the store and returns its lock entry. The version is read from the
// source.
func (r *resolver) keep(ctx context.Context, f *os.File, location string) (lock.Kernel, error) {
	r.get.task.Step("read the version")
	var version string
	err := r.get.tools.uncompressed(ctx, f, func(plain io.Reader) (err error) {
		version, err = sourceVersion(plain)
		return err
	})
	if err != nil {
		return lock.Kernel{}, fmt.Errorf("%s: %w", strings.TrimPrefix(location, debPrefix), err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return lock.Kernel{}, err
	}
	blob, err := r.store.Put(ctx, f)
	if err != nil {
		return lock.Kernel{}, err
	}
	return lock.Kernel{Version: version, Source: location, SHA256: blob.Digest.Hex(), Size: blob.Size}, nil
}
