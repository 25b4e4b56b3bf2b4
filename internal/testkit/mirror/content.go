package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// contentFormat is part of a content's identity. It changes whenever the same Debian packages would
// result in another content.
const contentFormat = 6

// A content is a folder that the mirror serves for one architecture:
//
//	content.json    the fields below
//	repository/     the apks and their index
//	images/         an OCI image layout
type content struct {
	dir   string
	arch  arch.Arch
	inUse *durable.Lock // held on the folder while the content is served

	// Format is the contentFormat of the content.
	Format int `json:"format"`
	// Base describes the base image.
	Base string `json:"base"`
	// PostgresMajor is the major version of the PostgreSQL in the repository.
	PostgresMajor string `json:"postgres_major"`
	// Packages lists the apks as NAME-VERSION. Debian lists their origins, the file names of
	// Debian's packages.
	Packages []string `json:"packages"`
	Debian   []string `json:"debian"`
	// Added are the names of Debian's packages that were requested in addition to the usual ones.
	Added []string `json:"added,omitempty"`
	// Release is the requested release of Debian; empty: the release in the host's sources.
	Release string `json:"release,omitempty"`
	// Beside are the releases whose PostgreSQL is served in addition.
	Beside []string `json:"beside,omitempty"`
}

// loadContent reads an existing content.
func loadContent(dir string, a arch.Arch) (*content, error) {
	data, err := os.ReadFile(filepath.Join(dir, "content.json"))
	if err != nil {
		return nil, err
	}
	c := &content{dir: dir, arch: a}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read %s: %w; remove the folder to have it made again", filepath.Join(dir, "content.json"), err)
	}
	return c, nil
}

// A maker prepares contents in a cache.
type maker struct {
	cache    cache
	key      *apkbuild.Key
	fixtures string
	added    []string // sorted
	release  string
	beside   []string
	log      func(string, ...any)
}

// prepare returns the content for an architecture. It makes the content from Debian's packages if
// it does not exist. It fetches the packages if they do not exist or refresh is set.
func (m *maker) prepare(ctx context.Context, a arch.Arch, refresh bool) (*content, error) {
	debs, err := m.fetchAll(ctx, a, refresh)
	if err != nil {
		return nil, err
	}
	id, err := m.identity(a, debs)
	if err != nil {
		return nil, err
	}
	dir := m.cache.path("content", a.Go+"-"+id)
	c, err := loadContent(dir, a)
	if errors.Is(err, fs.ErrNotExist) {
		m.log("%s: making apk packages and images of them", a.Go)
		if err := m.cache.create(dir, func(dir string) error { return m.build(ctx, a, debs, dir) }); err != nil {
			return nil, err
		}
		if c, err = loadContent(dir, a); err == nil {
			err = m.removeStale(a, c)
		}
	}
	if err != nil {
		return nil, err
	}
	return c, c.lock()
}

// fetchAll returns the folders of Debian's packages: first of the release, then of the releases
// beside it. It fetches missing folders; with refresh, all.
func (m *maker) fetchAll(ctx context.Context, a arch.Arch, refresh bool) (debs []string, err error) {
	for i, release := range append([]string{m.release}, m.beside...) {
		of := *m
		of.release = release
		if i > 0 {
			of.added = nil
		}
		dir := m.cache.debs(a, of.added, release)
		if _, err := os.Stat(dir); refresh || errors.Is(err, fs.ErrNotExist) {
			if err := of.fetch(ctx, a, dir); err != nil {
				return nil, fmt.Errorf("fetch Debian's packages for %s: %w", a.Go, err)
			}
		}
		debs = append(debs, dir)
	}
	return debs, nil
}

// lock prevents the removal of the content as stale while it is served.
func (c *content) lock() error {
	var err error
	c.inUse, err = durable.WaitLock(context.Background(), c.dir, durable.Shared, durable.LockOptions{Existing: true})
	return err
}

// removeStale removes the architecture's contents that were made from other Debian packages than
// the current content, unless a mirror serves them.
func (m *maker) removeStale(a arch.Arch, current *content) error {
	dirs, err := filepath.Glob(m.cache.path("content", a.Go+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		c, err := loadContent(dir, a)
		if err == nil && c.Format == current.Format && (slices.Equal(c.Debian, current.Debian) || !slices.Equal(c.Added, current.Added) || c.Release != current.Release || !slices.Equal(c.Beside, current.Beside)) {
			continue
		}
		l, err := durable.TryLock(dir, durable.Exclusive, durable.LockOptions{Existing: true})
		if errors.Is(err, durable.ErrBusy) {
			continue
		}
		if err == nil {
			err = os.RemoveAll(dir)
			l.Release()
		}
		if err != nil {
			return fmt.Errorf("remove stale content: %w", err)
		}
	}
	return nil
}

// fetch downloads Debian's packages to the folder debs. It removes apt's state at the end.
func (m *maker) fetch(ctx context.Context, a arch.Arch, debs string) error {
	dir, err := os.MkdirTemp(m.cache.path("tmp"), "apt-"+a.Go+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	state := aptState{dir: dir, arch: a, release: m.release}
	return m.cache.create(debs, func(dir string) error { return fetchDebs(ctx, state, m.added, dir, m.log) })
}

// debs returns the folder of Debian's packages for an architecture. Its name depends on the
// requested packages and the release.
func (c cache) debs(a arch.Arch, added []string, release string) string {
	sum := sha256.Sum256([]byte(strings.TrimSuffix(strings.Join(slices.Concat(wanted, added), " ")+"\n"+release, "\n")))
	return c.path("debs", a.Go+"-"+hex.EncodeToString(sum[:4]))
}

// identity returns a hash of everything that determines a content.
func (m *maker) identity(a arch.Arch, debs []string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "format %d\nkey %s\n", contentFormat, m.key.Name)
	for _, dir := range debs {
		names, err := debNames(dir)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "debs %q\n", names)
	}
	if len(m.added) > 0 {
		fmt.Fprintf(h, "added %q\n", m.added)
	}
	if file := minirootfs(m.fixtures, a); file != "" {
		digest, err := fileDigest(file)
		if err != nil {
			return "", fmt.Errorf("read the fixture: %w", err)
		}
		fmt.Fprintf(h, "minirootfs %s %s\n", filepath.Base(file), digest)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// debNames returns the names of Debian's packages in a folder, sorted.
func debNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, isDeb := strings.CutSuffix(e.Name(), ".deb"); isDeb {
			names = append(names, name)
		}
	}
	return names, nil
}

// build makes a content in the folder dir from the packages in the folders debs.
func (m *maker) build(ctx context.Context, a arch.Arch, debs []string, dir string) error {
	packages, err := repackage(ctx, debs, a, m.added)
	if err != nil {
		return err
	}
	c := &content{Format: contentFormat, PostgresMajor: postgresMajor(packages), Added: m.added, Release: m.release, Beside: m.beside}
	for _, dir := range debs {
		names, err := debNames(dir)
		if err != nil {
			return err
		}
		c.Debian = append(c.Debian, names...)
	}
	if minirootfs(m.fixtures, a) != "" {
		// Alpine's base already has a busybox.
		packages = slices.DeleteFunc(packages, func(p *apkbuild.Package) bool { return p.Name == "busybox" })
	}
	entries, err := writePackages(ctx, filepath.Join(dir, "repository"), m.key, packages)
	if err != nil {
		return err
	}
	base, err := m.base(a, packages, entries)
	if err != nil {
		return err
	}
	c.Base = base.name
	if err := c.writeImages(filepath.Join(dir, "images"), a, base, packages, entries); err != nil {
		return err
	}
	if err := c.writeIndex(filepath.Join(dir, "repository"), m.key, entries); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "content.json"), append(data, '\n'), 0o644)
}

func (m *maker) base(a arch.Arch, packages []*apkbuild.Package, entries map[string]apkbuild.Entry) (*base, error) {
	var b *base
	var err error
	if file := minirootfs(m.fixtures, a); file != "" {
		b, err = alpineBase(file)
	} else {
		b, err = busyboxBase(a, packages, maps.Clone(entries))
	}
	if err != nil {
		return nil, err
	}
	return b, b.addKey(m.key)
}

// writeImages makes the images of the architecture and writes them to dir.
func (c *content) writeImages(dir string, a arch.Arch, b *base, packages []*apkbuild.Package, entries map[string]apkbuild.Entry) error {
	alpine, err := imageOf(a, b.layers, []string{searchPath}, "/bin/sh")
	if err != nil {
		return fmt.Errorf("make the base image: %w", err)
	}
	postgres, err := postgresImage(a, b, packages, entries, c.PostgresMajor)
	if err != nil {
		return fmt.Errorf("make the image with PostgreSQL: %w", err)
	}
	return writeImages(dir, map[string]v1.Image{baseImage: alpine, postgresImageName(c.PostgresMajor): postgres})
}

// writePackages writes the .apk files to dir and returns their entries by package name.
func writePackages(ctx context.Context, dir string, key *apkbuild.Key, packages []*apkbuild.Package) (map[string]apkbuild.Entry, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	entries := map[string]apkbuild.Entry{}
	for _, p := range packages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var file bytes.Buffer
		entry, err := p.Write(&file, key)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, entry.Filename()), file.Bytes(), 0o644); err != nil {
			return nil, err
		}
		entries[p.Name] = entry
	}
	return entries, nil
}

// writeIndex writes the signed index of the entries to dir.
func (c *content) writeIndex(dir string, key *apkbuild.Key, entries map[string]apkbuild.Entry) error {
	var sorted []apkbuild.Entry
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		sorted = append(sorted, entries[name])
		c.Packages = append(c.Packages, name+"-"+entries[name].Version)
	}
	var index bytes.Buffer
	if err := apkbuild.WriteIndex(&index, key, "sov-mirror: Debian's programs as apk packages", sorted); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "APKINDEX.tar.gz"), index.Bytes(), 0o644)
}

// postgresMajor returns the major version of the newest server among the packages.
func postgresMajor(packages []*apkbuild.Package) (major string) {
	newest := 0
	for _, p := range packages {
		rest, _ := strings.CutPrefix(p.Name, "postgresql")
		if n, err := strconv.Atoi(rest); err == nil && n > newest {
			newest, major = n, rest
		}
	}
	return major
}
