package cves

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MaxDatabase is the largest database, in bytes. Alpine's have about 1 MiB; all of OSV's advisories
// for Alpine about 60 MiB.
const MaxDatabase = 256 << 20

// A Database is the content of a database file.
type Database struct {
	branch     string                // Alpine's, of a security database; "" for OSV
	advisories map[string][]advisory // by ecosystem, a space, and a component's name
}

// An advisory is about one component.
type advisory struct {
	id       string
	aliases  []string
	branch   string // of Alpine; "" is any
	versions []string
	ranges   [][]event
}

// An event is the start or end of a vulnerable range (OSV schema, "affected[].ranges[].events").
// One field is set.
type event struct {
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
}

func (e event) version() string { return e.Introduced + e.Fixed + e.LastAffected }

// affects reports whether a component's version is vulnerable, and the fixed version.
func (a advisory) affects(c Component) (fixed string, affected bool) {
	for _, events := range a.ranges {
		events = slices.Clone(events)
		slices.SortStableFunc(events, func(x, y event) int {
			switch { // "0" is before every version
			case x.version() == y.version():
				return 0
			case x.version() == "0":
				return -1
			case y.version() == "0":
				return 1
			}
			return Component{Ecosystem: c.Ecosystem, Version: x.version()}.compare(y.version())
		})
		in := false
		for _, e := range events {
			switch {
			case e.Introduced != "" && (e.Introduced == "0" || c.compare(e.Introduced) >= 0):
				in, fixed = true, ""
			case e.Fixed != "" && c.compare(e.Fixed) >= 0, e.LastAffected != "" && c.compare(e.LastAffected) > 0:
				in = false
			case in && fixed == "" && e.Fixed != "":
				fixed = e.Fixed
			}
		}
		if in {
			return fixed, true
		}
	}
	return "", slices.Contains(a.versions, c.Version)
}

// Parse reads a database of either kind.
func Parse(text []byte) (*Database, error) {
	d := &Database{advisories: map[string][]advisory{}}
	var secdb struct {
		Branch   string `json:"distroversion"`
		Packages []struct {
			Package struct {
				Name     string              `json:"name"`
				Secfixes map[string][]string `json:"secfixes"` // version to what it fixes; "0" to what never was in it
			} `json:"pkg"`
		} `json:"packages"`
	}
	if json.Unmarshal(text, &secdb) == nil && secdb.Branch != "" {
		d.branch = secdb.Branch
		for _, p := range secdb.Packages {
			for version, list := range p.Package.Secfixes {
				for _, ids := range list {
					names := strings.Fields(ids)
					if version == "0" || len(names) == 0 {
						continue
					}
					d.add(Alpine, p.Package.Name, advisory{id: names[0], aliases: names[1:], ranges: [][]event{{{Introduced: "0"}, {Fixed: version}}}})
				}
			}
		}
		return d, nil
	}
	return d, d.parseOSV(text)
}

func (d *Database) add(ecosystem, name string, a advisory) {
	key := ecosystem + " " + name
	d.advisories[key] = append(d.advisories[key], a)
}

// An osv has the used fields of an OSV advisory.
type osv struct {
	ID        string   `json:"id"`
	Aliases   []string `json:"aliases"`
	Upstream  []string `json:"upstream"`
	Withdrawn string   `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Ranges []struct {
			Type   string  `json:"type"` // "SEMVER" or "ECOSYSTEM"; "GIT" has commits
			Events []event `json:"events"`
		} `json:"ranges"`
		Versions []string `json:"versions"`
	} `json:"affected"`
}

// parseOSV reads advisories: one JSON value or several, each an advisory, a list of them, or an
// answer of OSV's server.
func (d *Database) parseOSV(text []byte) error {
	for values := json.NewDecoder(bytes.NewReader(text)); ; {
		var value json.RawMessage
		err := values.Decode(&value)
		if errors.Is(err, io.EOF) && len(d.advisories) > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("neither Alpine's security database nor advisories in the OSV format: %w", noEOF(err))
		}
		var answer struct {
			osv
			Vulns []osv `json:"vulns"`
		}
		list := []osv{}
		if bytes.HasPrefix(bytes.TrimSpace(value), []byte("[")) {
			err = json.Unmarshal(value, &list)
		} else if err = json.Unmarshal(value, &answer); err == nil {
			list = append(answer.Vulns, answer.osv)
		}
		if err != nil {
			return fmt.Errorf("read advisories: %w", err)
		}
		for _, o := range list {
			d.addOSV(o)
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it names no package of Alpine, Go or Linux")
	}
	return err
}

func (d *Database) addOSV(o osv) {
	if o.ID == "" || o.Withdrawn != "" {
		return
	}
	for _, f := range o.Affected {
		ecosystem, branch, _ := strings.Cut(f.Package.Ecosystem, ":")
		if !slices.Contains([]string{Alpine, Go, Linux}, ecosystem) {
			continue
		}
		a := advisory{id: o.ID, aliases: slices.Concat(o.Aliases, o.Upstream), branch: branch, versions: f.Versions}
		for _, r := range f.Ranges {
			if r.Type != "GIT" {
				a.ranges = append(a.ranges, r.Events)
			}
		}
		d.add(ecosystem, f.Package.Name, a)
	}
}
