package mirror

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// A repackager turns the Debian packages of one architecture into apks: the packages that the
// repository offers, and every library that their files link to.
type repackager struct {
	arch     arch.Arch
	debs     map[string]*deb // by name
	beside   map[string]int  // for packages of another release, the index of its folder
	added    []string        // names of packages requested in addition
	opened   []func() error  // close the files of debs
	queue    []string        // names of packages to repackage
	queued   map[string]bool
	packages []*apkbuild.Package
	offered  map[string]string // soname to the apk that has it
	needed   map[string]string // soname to an apk that needs it
}

// repackage makes apks from the packages in folders, one for each release of Debian, and returns
// them sorted by name. It takes all packages of the first release. From the other releases it takes
// PostgreSQL and those of its libraries that the first release lacks, so that only one libc exists.
func repackage(ctx context.Context, dirs []string, a arch.Arch, added []string) ([]*apkbuild.Package, error) {
	r := &repackager{
		arch: a, added: added, debs: map[string]*deb{}, beside: map[string]int{}, queued: map[string]bool{},
		offered: map[string]string{}, needed: map[string]string{},
	}
	defer r.close()
	if err := r.open(dirs); err != nil {
		return nil, err
	}
	if err := r.run(ctx); err != nil {
		return nil, fmt.Errorf("repackage Debian's packages for %s: %w", a.Alpine, err)
	}
	return r.packages, nil
}

// open opens the packages in the folders. A package in an earlier folder has precedence.
func (r *repackager) open(dirs []string) error {
	for i, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil {
			return err
		}
		for _, name := range names {
			d, closeFile, err := openDebFile(name)
			if err != nil {
				return err
			}
			r.opened = append(r.opened, closeFile)
			if _, there := r.debs[d.name]; there {
				continue
			}
			r.debs[d.name] = d
			if i > 0 {
				r.beside[d.name] = i
			}
		}
	}
	return nil
}

func (r *repackager) close() {
	for _, closeFile := range r.opened {
		closeFile()
	}
}

func (r *repackager) run(ctx context.Context) error {
	if err := r.makeAll(ctx); err != nil {
		return err
	}
	for soname, by := range r.needed {
		if _, ok := r.offered[soname]; !ok {
			return fmt.Errorf("%s needs %s, which no fetched package has", by, soname)
		}
	}
	if err := r.addICUData(); err != nil {
		return err
	}
	if len(r.beside) > 0 {
		r.joinServers()
	}
	slices.SortFunc(r.packages, func(a, b *apkbuild.Package) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// makeAll makes the apks of all programs and of the libraries that they need.
func (r *repackager) makeAll(ctx context.Context) error {
	for _, name := range r.names() {
		program := !libraryPackage.MatchString(name) || name == "libc-bin" || slices.Contains(r.added, name)
		if program && (r.beside[name] == 0 || serverPackage.MatchString(name)) {
			r.enqueue(name)
		}
	}
	for len(r.queue) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := r.queue[0]
		r.queue = r.queue[1:]
		if err := r.repackage(r.debs[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// names returns the names of Debian's packages, those of the first release first.
func (r *repackager) names() []string {
	return slices.SortedFunc(maps.Keys(r.debs), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.beside[a], r.beside[b]), cmp.Compare(a, b))
	})
}

// joinServers makes several versions of PostgreSQL installable at the same time, as in Alpine: it
// removes the versions from the names that they provide, and merges their postgresql-common.
func (r *repackager) joinServers() {
	var common *apkbuild.Package
	r.packages = slices.DeleteFunc(r.packages, func(p *apkbuild.Package) bool {
		if !strings.HasPrefix(p.Name, "postgresql") {
			return false
		}
		for i, name := range p.Provides {
			p.Provides[i] = bareName(name)
		}
		if p.Name != "postgresql-common" {
			return false
		}
		if common == nil {
			common = p
			return false
		}
		common.Files = append(common.Files, p.Files...)
		return true
	})
}

func (r *repackager) enqueue(name string) {
	if !r.queued[name] {
		r.queued[name] = true
		r.queue = append(r.queue, name)
	}
}

// repackage makes the apks of a Debian package according to the plan, and queues the packages of
// the libraries that they need.
func (r *repackager) repackage(d *deb) error {
	version, err := apkVersion(d.version)
	if err != nil {
		return err
	}
	files, err := d.files(leaveOut)
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, plainDirectory)
	for _, part := range plan(d.name, slices.Contains(r.added, d.name)) {
		var own []apkbuild.File
		own, files = divide(files, part.takes)
		if part.adapt != nil {
			own = part.adapt(own)
		}
		p, err := r.assemble(d, part, version, own)
		if err != nil {
			return err
		}
		r.packages = append(r.packages, p)
	}
	return nil
}

// plainDirectory reports whether f is a directory with the same mode and owner as the parent
// directories that apkbuild adds.
func plainDirectory(f apkbuild.File) bool {
	return f.Type == apkbuild.Directory && f.Mode == 0o755 && f.UID == 0 && f.GID == 0
}

func divide(files []apkbuild.File, takes func(string) bool) (taken, left []apkbuild.File) {
	for _, f := range files {
		if takes == nil || takes(f.Name) {
			taken = append(taken, f)
		} else {
			left = append(left, f)
		}
	}
	return taken, left
}

func (r *repackager) assemble(d *deb, part part, version string, files []apkbuild.File) (*apkbuild.Package, error) {
	linkage, err := linkageOf(files)
	if err != nil {
		return nil, err
	}
	p := &apkbuild.Package{
		Info: apkbuild.Info{
			Name: part.name, Version: version, Arch: r.arch.Alpine,
			Description: fmt.Sprintf("%s (Debian's %s %s)", d.summary, d.name, d.version),
			URL:         d.homepage, Origin: d.source, Packager: "sov-mirror",
			BuildTime:        newest(files),
			ProviderPriority: part.priority,
			Depends:          slices.Concat(part.depends, linkage.dependencies()),
			Provides:         slices.Concat(withVersion(part.provides, version), commands(files, version), linkage.provisions()),
		},
		Scripts: part.scripts,
		Files:   files,
	}
	if len(part.scripts) > 0 {
		p.Depends = append(p.Depends, "/bin/sh")
	}
	for soname := range linkage.offers {
		r.offered[soname] = p.Name
	}
	for soname := range linkage.needs {
		r.needed[soname] = p.Name
		for _, name := range r.names() {
			if slices.Contains(r.debs[name].sonames, soname) {
				r.enqueue(name)
				break
			}
		}
	}
	return p, nil
}

func newest(files []apkbuild.File) time.Time {
	var t time.Time
	for _, f := range files {
		if f.ModTime.After(t) {
			t = f.ModTime
		}
	}
	return t
}

// withVersion adds the package's version to provided names, except to paths.
func withVersion(names []string, version string) []string {
	var provides []string
	for _, name := range names {
		if !strings.HasPrefix(name, "/") {
			name += "=" + version
		}
		provides = append(provides, name)
	}
	return provides
}

// commands returns the "cmd:" provisions: the programs in the usual folders. Of busybox's links,
// only the shell is provided, as in Alpine: the others replace programs that other packages may
// have, and two packages cannot provide one command.
func commands(files []apkbuild.File, version string) []string {
	var provides []string
	for _, name := range postgresPrograms(files) { // a trigger links them
		provides = append(provides, "cmd:"+name+"="+version)
	}
	for _, f := range files {
		if f.Type == apkbuild.Symlink && path.Base(f.Target) == "busybox" && path.Base(f.Name) != "sh" {
			continue
		}
		switch path.Dir(f.Name) {
		case "bin", "sbin", "usr/bin", "usr/sbin":
			if f.Type == apkbuild.Symlink || f.Mode&0o111 != 0 && f.Type != apkbuild.Directory {
				provides = append(provides, "cmd:"+path.Base(f.Name)+"="+version)
			}
		}
	}
	slices.Sort(provides)
	return slices.Compact(provides)
}

// addICUData adds icu-data-full, with which recipes request ICU's full data. The package only
// depends on Debian's library, which always has the data.
func (r *repackager) addICUData() error {
	for _, p := range r.packages {
		for _, provided := range p.Provides {
			if strings.HasPrefix(provided, sonamePrefix+"libicudata.so.") {
				info := p.Info
				info.Name, info.Provides, info.Depends = "icu-data-full", nil, []string{p.Name + "=" + p.Version}
				info.Description = "ICU's full data, by way of the library that has it"
				r.packages = append(r.packages, &apkbuild.Package{Info: info})
				return nil
			}
		}
	}
	return fmt.Errorf("no package has ICU's data, which PostgreSQL's collations need")
}
