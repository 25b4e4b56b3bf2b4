package build

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/host/cves"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/stages/resolve"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// CVEs compares the recipe's lock entry with a database of known vulnerabilities, a path or a URL.
func CVEs(ctx context.Context, o resolve.Options, database string, now time.Time) (*cves.Report, error) {
	c, err := resolve.ContentsOf(ctx, o)
	if err != nil {
		return nil, err
	}
	text, err := c.Client.Encrypted().Bytes(ctx, database, cves.MaxDatabase)
	if err != nil {
		return nil, fmt.Errorf("fetch the database of vulnerabilities: %w", err)
	}
	d, err := cves.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", database, err)
	}
	report, err := d.Compare(components(c.Entry, c.Packages), alpineBranch(c.Entry), o.Recipe.CVEs.Ignore, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", database, err)
	}
	return report, nil
}

// components returns the components for advisories: the origins of packages, the kernel, and
// Tailscale's modules.
func components(entry *lock.Entry, installed []*apk.Package) []cves.Component {
	var out []cves.Component
	for _, p := range installed {
		origin := cmp.Or(p.Origin, p.Name)
		if i := slices.IndexFunc(out, func(c cves.Component) bool { return c.Name == origin && c.Version == p.Version }); i >= 0 {
			out[i].Packages = append(out[i].Packages, p.Name)
		} else {
			out = append(out, cves.Component{Ecosystem: cves.Alpine, Name: origin, Version: p.Version, Packages: []string{p.Name}})
		}
	}
	if entry.Kernel != nil {
		out = append(out, cves.Component{Ecosystem: cves.Linux, Name: "Kernel", Version: entry.Kernel.Version})
	}
	if entry.Tailscale != "" {
		for _, m := range tailscale.Requirements() {
			out = append(out, cves.Component{Ecosystem: cves.Go, Name: m.Path, Version: m.Version})
		}
	}
	return out
}

// branchForm finds Alpine's branch in a repository's address.
var branchForm = regexp.MustCompile(`/(v[0-9]+\.[0-9]+|edge)(/|$)`)

// alpineBranch returns the branch of the packages, or "" if their repositories do not name one, or
// several.
func alpineBranch(entry *lock.Entry) string {
	branch := ""
	for _, repository := range entry.Inputs.Repositories {
		m := branchForm.FindStringSubmatch(repository)
		if m == nil || branch != "" && branch != m[1] {
			return ""
		}
		branch = m[1]
	}
	return branch
}
