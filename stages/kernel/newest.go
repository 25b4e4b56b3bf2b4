package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/fetch"
	guest "github.com/sovereign-sql/sov/kernel"
)

// Newest returns the version that Resolve would find now, and whether it differs from the locked
// source, without fetching an archive. A URL in the recipe counts as unchanged.
func Newest(ctx context.Context, o ResolveOptions, locked lock.Kernel) (version string, newer bool, err error) {
	r := newResolver(o)
	switch name, isDeb := strings.CutPrefix(o.Source, debPrefix); {
	case o.Source == "":
		return r.newestDefault(ctx, locked)
	case isDeb:
		return r.newestDebian(ctx, name, locked)
	case !fetch.IsURL(o.Source):
		return r.newestFile(o.Source, locked)
	}
	return locked.Version, false, nil
}

// newestDefault checks the default sources in order. The same version at another location does not
// count as newer.
func (r *resolver) newestDefault(ctx context.Context, locked lock.Kernel) (string, bool, error) {
	_, err := r.signature(ctx, guest.SignatureURL(guest.Version))
	if err == nil {
		return guest.Version, guest.Version != locked.Version, nil
	}
	if ctx.Err() != nil {
		return "", false, ctx.Err()
	}
	version, newer, debErr := r.newestDebian(ctx, guest.DebianPackage, locked)
	if debErr == nil {
		return version, newer, nil
	}
	return "", false, fmt.Errorf("ask for the newest kernel source: %w", errors.Join(err, debErr))
}

// newestDebian asks apt, which uses this computer's package lists. If the locked source is from
// another location, it compares kernel versions.
func (r *resolver) newestDebian(ctx context.Context, pkg string, locked lock.Kernel) (string, bool, error) {
	if r.get.fetch.Transport == fetch.Offline {
		return "", false, fetch.ErrOffline
	}
	pkg, pinned, _ := strings.Cut(pkg, "=")
	if pinned != "" {
		return locked.Version, false, nil
	}
	text, err := r.get.output(ctx, os.TempDir(), "apt-cache", "--quiet", "--no-all-versions", "show", pkg)
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(text) {
		if version, ok := strings.CutPrefix(line, "Version: "); ok {
			version = strings.TrimSpace(version)
			if strings.HasPrefix(locked.Source, debPrefix) {
				return version, locked.Source != debPrefix+pkg+"="+version, nil
			}
			upstream, _, _ := strings.Cut(version, "-")
			return version, upstream != locked.Version, nil
		}
	}
	return "", false, fmt.Errorf("apt knows no package %s", pkg)
}

func (r *resolver) newestFile(path string, locked lock.Kernel) (string, bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, fmt.Errorf("kernel source: %w", err)
	}
	defer f.Close()
	sum, err := fileSHA256(f)
	if err != nil {
		return "", false, fmt.Errorf("kernel source %s: %w", path, err)
	}
	return locked.Version + " as it is now", sum != locked.SHA256, nil
}
