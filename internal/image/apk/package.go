package apk

import "time"

// A Package is what an index or the installed database says about one package. The comments name
// the line of the index (and in brackets the key of .PKGINFO) that a field comes from.
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
	InstallIf        []Dep // i: [install_if] installed by itself once all of these are

	Replaces         []Dep // r: [replaces] whose files it may take over; not in an index
	ReplacesPriority int   // q: [replaces_priority]; not in an index

	// pinned is the repository tag an installed package was pinned to (s:).
	pinned string
	// unusable says why the package cannot be installed although it is listed: it uses something of
	// its format that is unknown or malformed.
	unusable error
}

// ID returns "name-version".
func (p *Package) ID() string { return p.Name + "-" + p.Version }

// Filename returns the name of the package's file in a repository: "name-version.apk". It stands in
// the directory of the index, whose last element is the architecture.
func (p *Package) Filename() string { return p.ID() + ".apk" }

// Unusable returns why the package cannot be installed, or nil. The reason lies in its index entry.
func (p *Package) Unusable() error { return p.unusable }
