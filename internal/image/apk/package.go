package apk

import "time"

// A Package is the entry of one package in an index or in the installed database. The comment of a
// field names its line in the index and, in brackets, its key in .PKGINFO.
type Package struct {
	Checksum      Checksum  // C: identifies the package: sum of its control member
	Name          string    // P: [pkgname]
	Version       string    // V: [pkgver]
	Arch          string    // A: [arch] may be "noarch"
	Size          int64     // S: bytes of the .apk file
	InstalledSize int64     // I: [size] bytes of the files; 0 for a package without any
	Description   string    // T: [pkgdesc]
	URL           string    // U: [url]
	License       string    // L: [license] an SPDX expression
	Origin        string    // o: [origin] the source package
	Maintainer    string    // m: [maintainer]
	BuildTime     time.Time // t: [builddate] zero if unknown
	Commit        string    // c: [commit] of the packaging repository

	ProviderPriority int   // k: [provider_priority] preference among providers of one virtual name
	Depends          []Dep // D: [depend]
	Provides         []Dep // p: [provides]
	InstallIf        []Dep // i: [install_if] installed automatically if all of these are

	Replaces         []Dep // r: [replaces] whose files it may take over; not in an index
	ReplacesPriority int   // q: [replaces_priority]; not in an index

	// pinned is the repository tag that an installed package is pinned to (s:).
	pinned string
	// unusable says why a listed package cannot be installed: its entry has something unknown or
	// malformed.
	unusable error
}

// ID returns "name-version".
func (p *Package) ID() string { return p.Name + "-" + p.Version }

// Filename returns the name of the package's file in a repository: "name-version.apk". The file is
// in the directory of the index, whose last element is the architecture.
func (p *Package) Filename() string { return p.ID() + ".apk" }

// Unusable returns why the package's index entry prevents its installation, or nil.
func (p *Package) Unusable() error { return p.unusable }
