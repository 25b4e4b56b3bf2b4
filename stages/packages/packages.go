// Package packages is the stage that adds Alpine packages to the base image. Resolve decides which,
// from signed indexes; the stage fetches exactly those and verifies them against the lock's
// checksums. Its outputs are each package without its signature (NAME-VERSION.apk), the package's
// files (NAME-VERSION.tar), the other changes that apk makes, mainly its database (db.tar), and the
// list of all installed packages (packages.json).
//
// Maintainer scripts are never run. The stage warns about packages with scripts that the recipe
// does not list.
package packages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/guestinit"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the stage's name.
const Name = "packages"

// ListFile is the output with a []Installed as JSON, by name.
const ListFile = "packages.json"

// version is part of the key. It is raised when the same packages give other outputs, also because
// of a change of package apk; a test detects that.
const version = 4

// An Installed is a package of the finished root file system.
type Installed struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Arch        string `json:"arch"` // Alpine's name, or "noarch"
	Checksum    string `json:"checksum,omitempty"`
	License     string `json:"license,omitempty"`
	Description string `json:"description,omitempty"`
	URL         string `json:"url,omitempty"`
	Origin      string `json:"origin,omitempty"`
}

// Options say what to install.
type Options struct {
	Below    []overlay.Share // the base image
	Packages []lock.Package  // in order, as Resolve returned them
	Removed  []string        // "name-version" of the base's packages to remove
	Recipe   *recipe.Recipe  // its packages.install becomes part of /etc/apk/world, its accounts own files
	Arch     string          // "arm64" or "amd64"
	Client   *fetch.Client
	Bundle   *offline.Bundle // used before the repositories
}

// FileOutput returns the name of a package's file, in repositories and among the stage's outputs.
func FileOutput(p lock.Package) string { return p.Name + "-" + p.Version + ".apk" }

// New returns the stage.
func New(o Options) pipeline.Stage { return overlay.Share{Stage: &stage{o}, MayBeEmpty: true} }

type stage struct{ Options }

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return overlay.Names(s.Below) }

// Key does not include the repositories: the checksum identifies the package in any repository.
func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, version)
	k.Add("arch", s.Arch)
	for _, p := range s.Packages { // their order matters
		k.Add("package "+p.Name, p.Version+" "+p.Checksum)
	}
	k.Add("removed", s.Removed)
	k.Add("world", s.Recipe.Packages.Install)
	k.Add("scripts", s.Recipe.Packages.Scripts)
	k.Add("users", s.Recipe.Users)
	k.Add("groups", s.Recipe.Groups)
	return nil
}

func (s *stage) Run(ctx context.Context, j *pipeline.Job) error {
	below, err := overlay.Merge(j, s.Below...)
	if err != nil {
		return err
	}
	defer below.Close()
	if len(s.Packages)+len(s.Removed)+len(s.Recipe.Packages.Install) == 0 { // /etc/apk/world does not change either
		return writeList(j, below.Tree)
	}
	fetched, err := s.fetchAll(ctx, j)
	if err != nil {
		return err
	}
	changes, closeAll, err := s.changes(j, below.Tree, fetched)
	defer closeAll()
	if err != nil {
		return err
	}
	return s.install(j, below.Tree, changes, fetched)
}

// A fetchedPackage is a package's file and its decompressed data, in the store.
type fetchedPackage struct {
	file, data pipeline.Blob
}

// parallelDownloads is the number of packages that are fetched at once. Most are small, so latency
// dominates.
const parallelDownloads = 8

func (s *stage) fetchAll(ctx context.Context, j *pipeline.Job) ([]fetchedPackage, error) {
	scratch, err := j.Scratch()
	if err != nil {
		return nil, err
	}
	j.Progress().Step(fmt.Sprintf("fetch %d packages", len(s.Packages)))
	for _, p := range s.Packages {
		j.Progress().Grow(p.Size)
	}
	out := make([]fetchedPackage, len(s.Packages))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelDownloads)
	for i, p := range s.Packages {
		group.Go(func() (err error) {
			out[i], err = s.fetch(ctx, j, p, filepath.Join(scratch, fmt.Sprint(i)))
			j.Progress().Add(p.Size)
			return err
		})
	}
	return out, group.Wait()
}

func (s *stage) fetch(ctx context.Context, j *pipeline.Job, p lock.Package, tmp string) (f fetchedPackage, err error) {
	f.file, err = j.Pin(ctx, "file "+p.Checksum, func(b pipeline.Blob) error {
		return withPackage(b, j.Open, func(pkg *apk.File) error { return verify(pkg, p) })
	}, func(w *pipeline.Writer) error {
		return s.download(ctx, w, p, tmp)
	})
	if err != nil {
		return f, err
	}
	f.data, err = j.Pin(ctx, "data "+p.Checksum, func(b pipeline.Blob) error {
		return checkFiles(b, p, f.file, j.Open)
	}, func(w *pipeline.Writer) error {
		return withPackage(f.file, j.Open, func(pkg *apk.File) error { return pkg.DataTar(w) })
	})
	return f, err
}

// download writes a package's file to w after verifying it.
func (s *stage) download(ctx context.Context, w *pipeline.Writer, p lock.Package, tmp string) error {
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	defer f.Close()
	location, err := s.receive(ctx, f, p)
	if err != nil {
		return fmt.Errorf("fetch package: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pkg, err := apk.OpenPackage(f, info.Size())
	if err == nil {
		err = verify(pkg, p)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", location, err)
	}
	_, err = io.Copy(w, pkg.Content())
	return err
}

// maxSignature is how many bytes a package may exceed the size in the index: a mirror may have
// replaced the signature. Alpine's signature members have less than one KiB.
const maxSignature = 64 << 10

// receive writes a package's file to f and returns where it came from.
func (s *stage) receive(ctx context.Context, f *os.File, p lock.Package) (location string, err error) {
	body, size, err := s.Bundle.Open(offline.Package, p.Checksum)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		location = Locate(p.Repository, s.Arch, FileOutput(p))
		return location, goneFromRepository(s.Client.File(ctx, f, location, p.Size+maxSignature), p)
	case err != nil:
		return "", err
	}
	defer body.Close()
	location = FileOutput(p) + " of the bundle"
	if size > p.Size+maxSignature {
		return location, fmt.Errorf("%s has %d bytes, the lock says %d", location, size, p.Size)
	}
	_, err = io.Copy(f, body)
	return location, err
}

// goneFromRepository adds advice to the error about a package that a repository does not have any
// more.
func goneFromRepository(err error, p lock.Package) error {
	var status *fetch.StatusError
	if errors.As(err, &status) && status.Code == 404 || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (repositories keep only the newest versions, and %s %s is no longer in this one. To build the locked version, use a bundle (--bundle) "+
			"or the cache of a computer that has built it; to take the newest version, run sov lock RECIPE --update %s)", err, p.Name, p.Version, p.Name)
	}
	return err
}

// changes returns the input of package apk. The returned function closes the opened files, also
// after an error.
func (s *stage) changes(j *pipeline.Job, below *tree.Tree, fetched []fetchedPackage) (c apk.Changes, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			f.Close()
		}
	}
	open := func(b pipeline.Blob) (*os.File, error) {
		f, err := j.Open(b)
		if err == nil {
			files = append(files, f)
		}
		return f, err
	}
	for i, f := range fetched {
		file, err := open(f.file)
		if err != nil {
			return c, closeAll, err
		}
		data, err := open(f.data)
		if err != nil {
			return c, closeAll, err
		}
		pkg, err := apk.OpenPackage(file, f.file.Size)
		if err != nil {
			return c, closeAll, err
		}
		control := pkg.Control()
		// apk's database has the checksum and size of the index, which are those with Alpine's
		// signature.
		control.Package.Checksum, control.Package.Size = apk.Checksum(s.Packages[i].Checksum), s.Packages[i].Size
		c.Add = append(c.Add, apk.Addition{Package: control.Package, Control: control, Data: data, Size: f.data.Size})
		s.warnOfScripts(j, pkg)
	}
	if c.World, err = wanted(below, s.Recipe.Packages.Install); err != nil {
		return c, closeAll, err
	}
	if c.Users, c.Groups, err = guestinit.IDs(below, s.Recipe); err != nil {
		return c, closeAll, err
	}
	c.Remove, err = s.removed(below)
	return c, closeAll, err
}

// removed finds the packages to remove in the base's database.
func (s *stage) removed(below *tree.Tree) ([]*apk.Package, error) {
	if len(s.Removed) == 0 {
		return nil, nil
	}
	installed, err := apk.Installed(below)
	if err != nil {
		return nil, err
	}
	var out []*apk.Package
	for _, id := range s.Removed {
		i := slices.IndexFunc(installed, func(p *apk.Package) bool { return p.ID() == id })
		if i < 0 {
			return nil, fmt.Errorf("the lock removes %s, which the base image does not have; run again with --update-lock", id)
		}
		out = append(out, installed[i])
	}
	return out, nil
}

func (s *stage) warnOfScripts(j *pipeline.Job, pkg *apk.File) {
	scripts := pkg.Scripts()
	accounted := slices.ContainsFunc(s.Recipe.Packages.Scripts, func(pattern string) bool {
		ok, _ := path.Match(pattern, pkg.Info().Name) // the recipe's validation has checked each pattern
		return ok
	})
	if len(scripts) > 0 && !accounted {
		j.Warnf("package %s has scripts that are not run (%s): give the recipe what they would do and add the package to packages.scripts",
			pkg.Info().Name, strings.Join(scripts, ", "))
	}
}

// install computes the changes and writes the outputs.
func (s *stage) install(j *pipeline.Job, below *tree.Tree, c apk.Changes, fetched []fetchedPackage) error {
	j.Progress().Step("install")
	plan, err := apk.PlanInstall(below, c)
	if err != nil {
		return err
	}
	for _, warning := range plan.Warnings() {
		j.Warnf("%s", warning)
	}
	for i, p := range s.Packages {
		if err := j.Attach(filesOutput(p), fetched[i].data); err != nil {
			return err
		}
		if err := s.attachFile(j, p, fetched[i].file); err != nil {
			return err
		}
	}
	w, err := j.Create(dbOutput)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := plan.WriteOverlay(w); err != nil {
		return err
	}
	db, err := w.Commit()
	if err != nil {
		return err
	}
	return s.list(j, below, c, db)
}

// list applies the outputs to the base's tree and writes the list of packages in the resulting
// database.
func (s *stage) list(j *pipeline.Job, below *tree.Tree, c apk.Changes, db pipeline.Blob) error {
	for _, a := range c.Add {
		if err := overlay.Apply(below, a.Data, a.Size); err != nil {
			return fmt.Errorf("apply package %s: %w", a.Package.ID(), err)
		}
	}
	f, err := j.Open(db)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := overlay.Apply(below, f, db.Size); err != nil {
		return fmt.Errorf("apply db%s: %w", overlay.Suffix, err)
	}
	return writeList(j, below)
}

func writeList(j *pipeline.Job, t *tree.Tree) error {
	installed, err := apk.Installed(t)
	if err != nil {
		return err
	}
	list := make([]Installed, len(installed))
	for i, p := range installed {
		list[i] = Installed{Name: p.Name, Version: p.Version, Arch: p.Arch, Checksum: string(p.Checksum),
			License: p.License, Description: p.Description, URL: p.URL, Origin: p.Origin}
	}
	slices.SortFunc(list, func(a, b Installed) int { return cmp.Compare(a.Name, b.Name) })
	return output.WriteJSON(j, ListFile, list)
}
