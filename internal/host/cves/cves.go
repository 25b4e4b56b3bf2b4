// Package cves compares the components of a lock with a database of known vulnerabilities: Alpine's
// security database (https://secdb.alpinelinux.org, a JSON file for each branch and repository) or
// advisories in the OSV format (https://ossf.github.io/osv-schema/), one, several, or a list of
// them.
//
// A database lists affected versions, not whether the machine uses the affected code; the recipe
// lists vulnerabilities that do not apply, with the reason.
package cves

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/apk"
)

// Ecosystems, as OSV names them.
const (
	Alpine = "Alpine"
	Go     = "Go"
	Linux  = "Linux"
)

// A Component is a part of a machine that may be vulnerable.
type Component struct {
	Ecosystem string
	Name      string   // its name in advisories: an Alpine package's origin, a Go module's path, "Kernel"
	Version   string   // as the ecosystem writes it
	Packages  []string // the Alpine packages that are built from it, by name; nil for others
}

func (c Component) compare(version string) int {
	if c.Ecosystem == Go {
		return semver.Compare(canonical(c.Version), canonical(version))
	}
	return apk.CompareVersions(c.Version, version)
}

func canonical(version string) string { return "v" + strings.TrimPrefix(version, "v") }

// A Vulnerability is a known vulnerability of a component's version.
type Vulnerability struct {
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases,omitempty"` // other names of it
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Packages []string `json:"packages,omitempty"`
	Fixed    string   `json:"fixed,omitempty"`   // the first fixed version; "" if there is none yet
	Ignored  string   `json:"ignored,omitempty"` // the recipe's reason
	Until    string   `json:"until,omitempty"`   // the last day of that
}

// A Report is the result of a comparison.
type Report struct {
	Components      int             `json:"components"` // that were compared
	Vulnerabilities []Vulnerability `json:"vulnerabilities"`
	Unused          []string        `json:"unused"` // entries of cves.ignore that do not apply or have expired
}

// Open returns how many vulnerabilities are not ignored.
func (r *Report) Open() int {
	n := 0
	for _, v := range r.Vulnerabilities {
		if v.Ignored == "" {
			n++
		}
	}
	return n
}

// Compare finds the vulnerabilities of components in a database. branch is Alpine's, such as
// "v3.22"; "" matches any. Vulnerabilities in ignore are reported with their reason, up to their
// last day.
func (d *Database) Compare(components []Component, branch string, ignore []recipe.IgnoredCVE, now time.Time) (*Report, error) {
	if d.branch != "" && branch != "" && d.branch != branch {
		return nil, fmt.Errorf("the database is that of Alpine %s, and the lock has packages of %s: take that branch's", d.branch, branch)
	}
	report := &Report{Components: len(components), Vulnerabilities: []Vulnerability{}, Unused: []string{}}
	for _, c := range components {
		for _, a := range d.advisories[c.Ecosystem+" "+c.Name] {
			if a.branch != "" && branch != "" && a.branch != branch {
				continue
			}
			fixed, affected := a.affects(c)
			if !affected {
				continue
			}
			report.Vulnerabilities = append(report.Vulnerabilities, Vulnerability{ID: a.id, Aliases: a.aliases, Name: c.Name, Version: c.Version, Packages: c.Packages, Fixed: fixed})
		}
	}
	report.ignore(ignore, now)
	slices.SortFunc(report.Vulnerabilities, func(a, b Vulnerability) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID), strings.Compare(a.Fixed, b.Fixed))
	})
	report.Vulnerabilities = slices.CompactFunc(report.Vulnerabilities, func(a, b Vulnerability) bool { return a.Name == b.Name && a.ID == b.ID })
	return report, nil
}

func (r *Report) ignore(list []recipe.IgnoredCVE, now time.Time) {
	today := now.UTC().Format(time.DateOnly)
	for _, i := range list {
		used := false
		for n := range r.Vulnerabilities {
			v := &r.Vulnerabilities[n]
			if (v.ID == i.ID || slices.Contains(v.Aliases, i.ID)) && (i.Until == "" || today <= i.Until) {
				v.Ignored, v.Until, used = i.Reason, i.Until, true
			}
		}
		if !used {
			r.Unused = append(r.Unused, i.ID)
		}
	}
}
