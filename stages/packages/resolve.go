package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// maxIndex is the largest index of a repository, in bytes. Alpine's community index has 2 MiB.
const maxIndex = 256 << 20

// A Request says what to resolve.
type Request struct {
	Base         *tree.Tree        // the base image, for its keys, its packages and its world
	Repositories []string          // URLs or paths, without the architecture's directory; optionally with "@TAG " in front
	Install      []string          // packages to add, with constraints
	Postgres     int               // major version that virtual names of PostgreSQL's packages stand for; 0: the newest
	Keys         map[string]string // trusted in addition to the base's or Alpine's: file name to PEM
	Arch         string            // "arm64" or "amd64"
	Client       *fetch.Client
	Seen         string            // folder with the times of the indexes seen last; empty: none
	Warn         func(text string) // called with warnings about a repository; may be nil
}

// A Resolution lists the packages to install and to remove.
type Resolution struct {
	Packages []lock.Package // to install, in order
	Removed  []string       // "name-version" of the base's packages that go away
	Servers  []int          // major versions of PostgreSQL in the repositories, in order
}

// Resolve fetches the repositories' indexes, verifies their signatures, and
// solves for the packages wanted.
func Resolve(ctx context.Context, r Request) (*Resolution, error) {
	if len(r.Install) == 0 {
		return &Resolution{}, nil
	}
	request, err := r.solver(ctx)
	if err != nil {
		return nil, err
	}
	solution, err := apk.Solve(request)
	if err != nil {
		return nil, fmt.Errorf("solve for packages from %s: %w", strings.Join(r.Repositories, ", "), err)
	}
	out := resolution(solution)
	out.Servers = serversIn(request.Repositories)
	return out, nil
}

// solver returns the input of the solver: the requested packages, the fetched and verified indexes,
// and the packages of the base image.
func (r Request) solver(ctx context.Context) (apk.Request, error) {
	installed, err := apk.Installed(r.Base)
	if err != nil {
		return apk.Request{}, fmt.Errorf("read the base image's packages: %w", err)
	}
	repositories, err := r.indexes(ctx)
	if err != nil {
		return apk.Request{}, err
	}
	install, err := r.pinned(serversIn(repositories))
	if err != nil {
		return apk.Request{}, err
	}
	world, err := wanted(r.Base, install)
	if err != nil {
		return apk.Request{}, err
	}
	return apk.Request{World: world, Repositories: repositories, Installed: installed, Arch: AlpineArch(r.Arch)}, nil
}

func resolution(s *apk.Solution) *Resolution {
	var out Resolution
	for _, c := range s.Install {
		out.Packages = append(out.Packages, lock.Package{Name: c.Name, Version: c.Version,
			Checksum: string(c.Checksum), Size: c.Size, Repository: c.Repository.URL})
	}
	for _, p := range s.Remove {
		out.Removed = append(out.Removed, p.ID())
	}
	return &out
}

// indexes fetches and verifies the indexes of all repositories in parallel.
func (r Request) indexes(ctx context.Context) ([]*apk.Repository, error) {
	trusted := make([]apk.Keys, len(r.Repositories))
	for i, repository := range r.Repositories {
		_, place := recipe.RepositoryTag(repository)
		var err error
		if trusted[i], err = r.trustedKeys(place); err != nil {
			return nil, err
		}
	}
	out := make([]*apk.Repository, len(r.Repositories))
	group, ctx := errgroup.WithContext(ctx)
	for i, repository := range r.Repositories {
		tag, place := recipe.RepositoryTag(repository)
		group.Go(func() error {
			location := Locate(place, r.Arch, "APKINDEX.tar.gz")
			raw, err := r.Client.Bytes(ctx, location, maxIndex)
			if status := new(fetch.StatusError); err != nil && (errors.As(err, &status) && status.Code == http.StatusNotFound || errors.Is(err, fs.ErrNotExist)) && r.isVersion3(ctx, place) {
				return fmt.Errorf("%s: %w", place, errVersion3)
			}
			if err != nil {
				return fmt.Errorf("fetch package index: %w", noRepository(err))
			}
			if isADB(raw) {
				return fmt.Errorf("%s: %w", location, errVersion3)
			}
			index, err := apk.ReadIndex(bytes.NewReader(raw), trusted[i])
			if errors.Is(err, apk.ErrUntrusted) {
				err = fmt.Errorf("%w (to trust the signer, give the recipe its key in packages.keys, or take a base image with it in /etc/apk/keys)", err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", location, err)
			}
			out[i] = &apk.Repository{URL: place, Tag: tag, Index: index}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return out, r.compareWithSeen(out)
}

// errVersion3 matches the error for a repository that only apk version 3 can read. Version 3 reads
// both formats.
var errVersion3 = errors.New("the repository has an index of apk version 3 (ADB), which is not supported: " +
	"name one with an APKINDEX.tar.gz, as Alpine's own are, or have it made with `apk index` of version 2")

// isADB reports whether a file is one of apk version 3: "ADB" and a letter for the compression
// (apk-tools 3, src/adb.h, ADB_FORMAT_MAGIC and ADB_COMPRESSED).
func isADB(file []byte) bool { return len(file) > 4 && string(file[:3]) == "ADB" }

// isVersion3 reports whether a repository has an index of version 3.
func (r Request) isVersion3(ctx context.Context, place string) bool {
	raw, err := r.Client.Bytes(ctx, Locate(place, r.Arch, "Packages.adb"), maxIndex)
	return err == nil && isADB(raw)
}

func noRepository(err error) error {
	var status *fetch.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return fmt.Errorf("%w (a repository is given without the architecture's directory, as in /etc/apk/repositories)", err)
	}
	if fetch.Unreachable(err) {
		return fmt.Errorf("%w (--repository takes packages from elsewhere: the URL of a mirror or a folder with a copy)", err)
	}
	return err
}

// wanted returns the new world: that of the base image and the recipe's packages. A package in the
// recipe replaces the base's constraint on the same name.
func wanted(base *tree.Tree, install []string) ([]apk.Dep, error) {
	world, err := apk.World(base)
	if err != nil {
		return nil, fmt.Errorf("read the base image's world: %w", err)
	}
	for _, word := range install {
		dep, err := apk.ParseDep(word)
		if err != nil {
			return nil, fmt.Errorf("package %q: %w", word, err)
		}
		world = slices.DeleteFunc(world, func(d apk.Dep) bool { return d.Name == dep.Name })
		world = append(world, dep)
	}
	slices.SortFunc(world, func(a, b apk.Dep) int { return strings.Compare(a.String(), b.String()) })
	return world, nil
}

// Locate returns the location of a file in a repository (a URL or a path) for an architecture (Go's
// name).
func Locate(repository, arch, file string) string {
	return strings.TrimSuffix(repository, "/") + "/" + AlpineArch(arch) + "/" + file
}

// AlpineArch returns Alpine's name of an architecture.
func AlpineArch(name string) string {
	a, err := arch.Get(name)
	if err != nil {
		return name
	}
	return a.Alpine
}
