// Command scanner matches the packages of an SBOM with grype, as a library, against a vulnerability
// database that it makes from its arguments. It prints a line for each match: the vulnerability,
// the package, its version.
//
// Usage: scanner SBOM DISTRIBUTION MAJOR MINOR ID:ECOSYSTEM:PACKAGE:FORMAT:CONSTRAINT...
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/anchore/grype/grype"
	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/anchore/grype/grype/match"
	"github.com/anchore/grype/grype/matcher/apk"
	"github.com/anchore/grype/grype/matcher/golang"
	"github.com/anchore/grype/grype/pkg"
)

func main() {
	if len(os.Args) < 5 {
		fail(fmt.Errorf("usage: scanner SBOM DISTRIBUTION MAJOR MINOR ID:ECOSYSTEM:PACKAGE:FORMAT:CONSTRAINT"))
	}
	dir, err := os.MkdirTemp("", "scanner-")
	fail(err)
	defer os.RemoveAll(dir)
	fail(write(dir, os.Args[2:5], os.Args[5:]))
	reader, err := v6.NewReader(v6.Config{DBDirPath: dir})
	fail(err)
	packages, context, _, err := pkg.Provide("sbom:"+os.Args[1], pkg.ProviderConfig{})
	fail(err)
	if context.Distro != nil {
		fmt.Printf("distribution %s %s\n", context.Distro.Type, context.Distro.Version)
	}
	matcher := grype.VulnerabilityMatcher{VulnerabilityProvider: v6.NewVulnerabilityProvider(reader),
		Matchers: []match.Matcher{&apk.Matcher{}, golang.NewGolangMatcher(golang.MatcherConfig{})}}
	found, _, err := matcher.FindMatches(packages, context)
	fail(err)
	var lines []string
	for m := range found.Enumerate() {
		lines = append(lines, fmt.Sprintf("%s %s %s\n", m.Vulnerability.ID, m.Package.Name, m.Package.Version))
	}
	slices.Sort(lines)
	fmt.Print(strings.Join(slices.Compact(lines), ""))
}

// write makes a database with these vulnerabilities. Those of ecosystem "apk" are the
// distribution's.
func write(dir string, distribution, list []string) error {
	db, err := v6.NewWriter(v6.Config{DBDirPath: dir, CacheSizeKiB: 1024})
	if err != nil {
		return err
	}
	if err := db.SetDBMetadata(); err != nil {
		return err
	}
	provider := &v6.Provider{ID: distribution[0], Version: "1", Processor: "test"}
	for _, text := range list {
		f := strings.SplitN(text, ":", 5)
		if len(f) != 5 {
			return fmt.Errorf("%s: want ID:ECOSYSTEM:PACKAGE:FORMAT:CONSTRAINT", text)
		}
		h := &v6.AffectedPackageHandle{
			Vulnerability: &v6.VulnerabilityHandle{Name: f[0], Status: v6.VulnerabilityActive, Provider: provider, BlobValue: &v6.VulnerabilityBlob{ID: f[0]}},
			Package:       &v6.Package{Ecosystem: f[1], Name: f[2]},
			BlobValue:     &v6.PackageBlob{CVEs: []string{f[0]}, Ranges: []v6.Range{{Version: v6.Version{Type: f[3], Constraint: f[4]}}}},
		}
		if f[1] == "apk" {
			h.OperatingSystem = &v6.OperatingSystem{Name: distribution[0], MajorVersion: distribution[1], MinorVersion: distribution[2]}
		}
		if err := db.AddVulnerabilities(h.Vulnerability); err != nil {
			return err
		}
		if err := db.AddAffectedPackages(h); err != nil {
			return err
		}
	}
	return db.Close()
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "scanner:", err)
		os.Exit(1)
	}
}
