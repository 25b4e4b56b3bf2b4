// Package lock stores the resolved inputs of a recipe: the image digest, package versions, the
// kernel source and the Tailscale release.
//
// A lock file (sov.lock) has one entry per recipe and architecture. An entry has both the request
// (Inputs) and its resolution, so that a build detects a lock that does not match its recipe any
// more. The package reads, compares and writes locks; package stages/resolve resolves recipes.
package lock

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Version is the format that is written, and the only one that is accepted.
const Version = 1

// A File is the content of a lock file.
type File struct {
	Version int     `yaml:"version"`
	Builds  []Entry `yaml:"builds"`
}

// An Entry pins all external inputs of a recipe for one architecture.
type Entry struct {
	Recipe    string       `yaml:"recipe"` // the recipe's name
	Arch      string       `yaml:"arch"`   // "arm64" or "amd64"
	Inputs    Inputs       `yaml:"inputs"`
	Image     Image        `yaml:"image"`
	Copied    []Image      `yaml:"copied"`    // images that files are copied from, as the recipe lists them
	Packages  []Package    `yaml:"packages"`  // in the order in which they are installed
	Files     []RecipeFile `yaml:"files"`     // the recipe's files whose content is not in the recipe
	Removed   []string     `yaml:"removed"`   // "name-version" of the base image's packages to remove
	Kernel    *Kernel      `yaml:"kernel"`    // nil with a finished kernel
	Tailscale string       `yaml:"tailscale"` // module version, "v1.102.5"; empty if the recipe does not enable it
}

// Inputs are the values of the recipe, and of flags that override it, that the entry resolves.
type Inputs struct {
	Image        string   `yaml:"image"`        // reference as written
	Repositories []string `yaml:"repositories"` // package repositories, in order
	Packages     []string `yaml:"packages"`     // requested packages, with constraints
	Kernel       string   `yaml:"kernel"`       // requested kernel source; empty for the default order
}

// An Image is an image for one platform.
type Image struct {
	Reference string `yaml:"reference"` // where it was found
	Digest    string `yaml:"digest"`    // "sha256:…" of the platform's manifest
}

// A Package is one Alpine package of the solution.
type Package struct {
	Name       string `yaml:"name"`
	Version    string `yaml:"version"`
	Checksum   string `yaml:"checksum"`   // as in the index: "Q1…" (SHA-1) or "Q2…" (SHA-256) of the control segment
	Size       int64  `yaml:"size"`       // bytes of the .apk file, as in the index
	Repository string `yaml:"repository"` // the repository the file is fetched from

	// Both are 64 hexadecimal digits. They are empty in locks of older versions, and in a lock
	// whose packages have not been fetched yet; Complete adds them.
	SHA256 string `yaml:"sha256"` // of the control and data members: of the file without its signature
	Files  string `yaml:"files"`  // SHA-256 of the uncompressed data member, a tar
}

// A RecipeFile is a file that the recipe puts into the root file system.
type RecipeFile struct {
	Path   string `yaml:"path"`   // in the root file system
	Source string `yaml:"source"` // a URL, or a path as the recipe has it; of a Go program GoPrefix and where its module is
	SHA256 string `yaml:"sha256"` // 64 hexadecimal digits; of a Go program the checksum of its module
}

// GoPrefix is the prefix of a Go program's source: "go:example.org/app@v1.2.3", "go:./app".
const GoPrefix = "go:"

// IsGo reports whether the file is a Go program, compiled from its source.
func (f RecipeFile) IsGo() bool { return strings.HasPrefix(f.Source, GoPrefix) }

// A Kernel is a kernel source archive.
type Kernel struct {
	Version string `yaml:"version"` // "6.1.158"
	Source  string `yaml:"source"`  // a URL, "deb:linux-source-6.1" or a path
	SHA256  string `yaml:"sha256"`  // 64 hexadecimal digits, of the archive
	Size    int64  `yaml:"size"`    // bytes of the archive
}

// serverPackage matches the names of Alpine's packages of PostgreSQL's server.
var serverPackage = regexp.MustCompile(`^postgresql([0-9]{2})$`)

// ServerMajor returns the major version of PostgreSQL whose server a package is, or 0.
func ServerMajor(name string) int {
	if m := serverPackage.FindStringSubmatch(name); m != nil {
		major, _ := strconv.Atoi(m[1])
		return major
	}
	return 0
}

// PostgresMajor returns the major version of the newest PostgreSQL among the packages, or 0.
func (e *Entry) PostgresMajor() (major int) {
	for _, p := range e.Packages {
		major = max(major, ServerMajor(p.Name))
	}
	return major
}

// Find returns the entry for a recipe and architecture.
func (f *File) Find(recipe, arch string) (*Entry, bool) {
	for i := range f.Builds {
		if f.Builds[i].Recipe == recipe && f.Builds[i].Arch == arch {
			return &f.Builds[i], true
		}
	}
	return nil, false
}

// Put adds the entry or replaces the one for the same recipe and architecture,
// keeping the file ordered by both.
func (f *File) Put(e Entry) {
	f.Version = Version
	if old, ok := f.Find(e.Recipe, e.Arch); ok {
		*old = e
		return
	}
	f.Builds = append(f.Builds, e)
	slices.SortFunc(f.Builds, func(a, b Entry) int {
		if c := strings.Compare(a.Recipe, b.Recipe); c != 0 {
			return c
		}
		return strings.Compare(a.Arch, b.Arch)
	})
}

// A StaleError says that an entry does not match the inputs of the build.
type StaleError struct {
	Path      string   // the lock file
	Recipe    string   // the entry's recipe
	Arch      string   // the entry's architecture
	Changes   []string // one sentence each
	FilesOnly bool     // all changes are of the recipe's files
	Offline   bool     // the build may not use the network, so it cannot update the lock
}

func (e *StaleError) Error() string {
	advice := "run `sov lock RECIPE --update all` or `sov build RECIPE --update-lock`"
	switch {
	case e.FilesOnly:
		advice = "run `sov lock RECIPE --update files`, or put the old file back"
	case e.Offline:
		advice = "run `sov lock RECIPE --update all` where there is a network, without --offline; or undo the change"
	}
	return fmt.Sprintf("%s is stale for recipe %q on %s: %s: %s", e.Path, e.Recipe, e.Arch, strings.Join(e.Changes, "; "), advice)
}

// A Want is a build's requirements for an entry.
type Want struct {
	Inputs
	Copied       []string // references of images that files are copied from
	Files        []RecipeFile
	Postgres     int    // major version that the recipe asks for; 0: any
	KernelSource bool   // a kernel will be built; otherwise the kernel is not compared
	Tailscale    string // the module version that this sov builds; empty if not needed
}

// Check compares the entry's inputs with the build's requirements and returns a *StaleError if they
// differ. path is the lock file's name, for the message.
func (e *Entry) Check(path string, want Want) error {
	var changes []string
	note := func(differs bool, format string, args ...any) {
		if differs {
			changes = append(changes, fmt.Sprintf(format, args...))
		}
	}
	note(e.Inputs.Image != want.Image, "the image was %s and is now %s", e.Inputs.Image, want.Image)
	if want.KernelSource && e.Kernel == nil {
		note(true, "it was made with a finished kernel and has no kernel source")
	} else if want.KernelSource {
		note(e.Inputs.Kernel != want.Kernel, "the kernel source was %s and is now %s", orDefault(e.Inputs.Kernel), orDefault(want.Kernel))
	}
	major := e.PostgresMajor()
	note(want.Postgres != 0 && major != 0 && major != want.Postgres, "PostgreSQL was %d and is to be %d", major, want.Postgres)
	note(e.Tailscale != want.Tailscale, "Tailscale was %s and is now %s", orNone(e.Tailscale), orNone(want.Tailscale))
	if change := setChange("repositories", e.Inputs.Repositories, want.Repositories); change != "" {
		changes = append(changes, change)
	}
	if change := setChange("copied images", references(e.Copied), want.Copied); change != "" {
		changes = append(changes, change)
	}
	files := len(changes)
	changes = append(changes, fileChanges(e.Files, want.Files)...)
	files = len(changes) - files
	if change := setChange("packages", e.Inputs.Packages, want.Packages); change != "" {
		changes = append(changes, change)
	}
	if len(changes) == 0 {
		return nil
	}
	return &StaleError{Path: path, Recipe: e.Recipe, Arch: e.Arch, Changes: changes, FilesOnly: files == len(changes)}
}

func references(images []Image) (list []string) {
	for _, i := range images {
		list = append(list, i.Reference)
	}
	return list
}

// fileChanges describes how the content of files differs.
func fileChanges(was, now []RecipeFile) (changes []string) {
	before := map[string]RecipeFile{}
	for _, f := range was {
		before[f.Path] = f
	}
	for _, f := range now {
		old, ok := before[f.Path]
		delete(before, f.Path)
		switch {
		case !ok:
			changes = append(changes, "file "+f.Path+" is new")
		case old.Source != f.Source:
			changes = append(changes, fmt.Sprintf("file %s was of %s and is now of %s", f.Path, old.Source, f.Source))
		case old.SHA256 != f.SHA256:
			changes = append(changes, fmt.Sprintf("%s, for %s, has changed", f.Source, f.Path))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(before)) {
		changes = append(changes, "file "+path+" is gone")
	}
	return changes
}

func orNone(s string) string {
	if s == "" {
		return "off"
	}
	return s
}

func orDefault(s string) string {
	if s == "" {
		return "the default"
	}
	return s
}

// setChange describes how a list differs, or returns "".
func setChange(what string, was, now []string) string {
	if slices.Equal(was, now) {
		return ""
	}
	var parts []string
	if added := without(now, was); len(added) > 0 {
		parts = append(parts, "added "+strings.Join(added, ", "))
	}
	if removed := without(was, now); len(removed) > 0 {
		parts = append(parts, "removed "+strings.Join(removed, ", "))
	}
	if len(parts) == 0 {
		parts = append(parts, "are in another order")
	}
	return what + ": " + strings.Join(parts, ", ")
}

// without returns the elements of a that b lacks.
func without(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}
