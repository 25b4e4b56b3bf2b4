package cves

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const secdb = `{"apkurl":"{{urlprefix}}/{{distroversion}}/{{reponame}}/{{arch}}/{{pkg.name}}-{{pkg.ver}}.apk","archs":["aarch64"],"reponame":"main",
"urlprefix":"https://dl-cdn.alpinelinux.org/alpine","distroversion":"v3.22","packages":[
{"pkg":{"name":"openssl","secfixes":{"3.3.2-r0":["CVE-2024-1 GHSA-1","CVE-2024-2"],"3.3.1-r0":["CVE-2023-9"],"0":["CVE-2022-0"]}}},
{"pkg":{"name":"zlib","secfixes":{}}}]}`

const advisories = `{"id":"ALPINE-CVE-1","aliases":["CVE-1"],"affected":[{"package":{"ecosystem":"Alpine:v3.22","name":"openssl"},
  "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"3.0.0-r0"},{"fixed":"3.3.2-r0"}]}]}]}
[{"id":"GO-1","affected":[{"package":{"ecosystem":"Go","name":"tailscale.com"},"ranges":[{"type":"SEMVER","events":[{"fixed":"1.50.0"},{"introduced":"0"},{"introduced":"1.100.0"},{"fixed":"1.103.0"}]}]}]},
 {"id":"GO-2","withdrawn":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Go","name":"tailscale.com"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}]
{"vulns":[{"id":"CVE-L","affected":[{"package":{"ecosystem":"Linux","name":"Kernel"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"6.1.0"},{"last_affected":"6.1.191"}]}]}]},
 {"id":"CVE-V","affected":[{"package":{"ecosystem":"Linux","name":"Kernel"},"versions":["6.1.192"]}]}]}`

func openssl(version string) Component {
	return Component{Alpine, "openssl", version, []string{"libcrypto3", "libssl3"}}
}

func ids(r *Report) string {
	var out []string
	for _, v := range r.Vulnerabilities {
		text := v.ID
		if v.Fixed != "" {
			text += "<" + v.Fixed
		}
		if v.Ignored != "" {
			text += "!"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func TestCompare(t *testing.T) {
	now := time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)
	ignore := func(id, until string) []recipe.IgnoredCVE {
		return []recipe.IgnoredCVE{{ID: id, Reason: "not reached", Until: until}}
	}
	for name, tc := range map[string]struct {
		database   string
		components []Component
		branch     string
		ignore     []recipe.IgnoredCVE
		want       string
		unused     int
	}{
		"old":                    {secdb, []Component{openssl("3.3.0-r5")}, "v3.22", nil, "CVE-2023-9<3.3.1-r0 CVE-2024-1<3.3.2-r0 CVE-2024-2<3.3.2-r0", 0},
		"newer":                  {secdb, []Component{openssl("3.3.1-r0")}, "v3.22", nil, "CVE-2024-1<3.3.2-r0 CVE-2024-2<3.3.2-r0", 0},
		"fixed":                  {secdb, []Component{openssl("3.3.2-r0"), {Alpine, "zlib", "1-r0", nil}}, "", nil, "", 0},
		"ignored by its alias":   {secdb, []Component{openssl("3.3.1-r0")}, "", ignore("GHSA-1", ""), "CVE-2024-1<3.3.2-r0! CVE-2024-2<3.3.2-r0", 0},
		"ignored on the day":     {secdb, []Component{openssl("3.3.1-r0")}, "", ignore("CVE-2024-2", "2026-06-30"), "CVE-2024-1<3.3.2-r0 CVE-2024-2<3.3.2-r0!", 0},
		"no longer ignored":      {secdb, []Component{openssl("3.3.1-r0")}, "", ignore("CVE-2024-2", "2026-06-29"), "CVE-2024-1<3.3.2-r0 CVE-2024-2<3.3.2-r0", 1},
		"ignored without effect": {secdb, []Component{openssl("3.3.2-r0")}, "", ignore("CVE-2024-2", ""), "", 1},
		"OSV, Alpine":            {advisories, []Component{openssl("3.3.1-r9")}, "v3.22", nil, "ALPINE-CVE-1<3.3.2-r0", 0},
		"OSV, another branch":    {advisories, []Component{openssl("3.3.1-r9")}, "v3.21", nil, "", 0},
		"OSV, before it":         {advisories, []Component{openssl("1.1.1-r0")}, "v3.22", nil, "", 0},
		"OSV, Go":                {advisories, []Component{{Go, "tailscale.com", "v1.102.5", nil}}, "", nil, "GO-1<1.103.0", 0},
		"OSV, Go between":        {advisories, []Component{{Go, "tailscale.com", "v1.60.0", nil}}, "", nil, "", 0},
		"OSV, the kernel":        {advisories, []Component{{Linux, "Kernel", "6.1.192", nil}}, "", nil, "CVE-V", 0},
		"OSV, an older kernel":   {advisories, []Component{{Linux, "Kernel", "6.1.9", nil}}, "", nil, "CVE-L", 0},
	} {
		d, err := Parse([]byte(tc.database))
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Compare(tc.components, tc.branch, tc.ignore, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := ids(r); got != tc.want || len(r.Unused) != tc.unused {
			t.Errorf("%s: got %q (%d unused), want %q", name, got, len(r.Unused), tc.want)
		}
		if open := strings.Count(tc.want+" ", " ") - strings.Count(tc.want, "!"); tc.want != "" && r.Open() != open {
			t.Errorf("%s: %d open, want %d", name, r.Open(), open)
		}
	}
	d, err := Parse([]byte(secdb))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Compare(nil, "v3.21", nil, now); err == nil || !strings.Contains(err.Error(), "v3.22") {
		t.Errorf("another branch's database: %v", err)
	}
	r, err := d.Compare([]Component{openssl("3.3.1-r0")}, "", ignoreAll, now)
	if err != nil {
		t.Fatal(err)
	}
	want := Vulnerability{ID: "CVE-2024-1", Aliases: []string{"GHSA-1"}, Name: "openssl", Version: "3.3.1-r0", Packages: []string{"libcrypto3", "libssl3"}, Fixed: "3.3.2-r0", Ignored: "a", Until: "2027-01-01"}
	if diff := cmp.Diff(want, r.Vulnerabilities[0]); diff != "" {
		t.Error(diff)
	}
}

var ignoreAll = []recipe.IgnoredCVE{{ID: "CVE-2024-1", Reason: "a", Until: "2027-01-01"}, {ID: "CVE-2024-2", Reason: "b"}}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", "<html>", `{"id":"x"}`, `{"id":"x","affected":[{"package":{"ecosystem":"npm","name":"x"}}]}`, secdb[:100], advisories[:len(advisories)-3]} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%.40q is a database", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(secdb))
	f.Add([]byte(advisories))
	f.Add([]byte(strings.Repeat("[", 1000)))
	f.Fuzz(func(t *testing.T, text []byte) {
		costtest.Text.Run(t, len(text), func() {
			d, err := Parse(text)
			if err != nil {
				if strings.Contains(err.Error(), "%!") {
					t.Error(err)
				}
				return
			}
			if _, err := d.Compare([]Component{openssl("3.3.1-r0"), {Go, "tailscale.com", "v1.102.5", nil}}, "", ignoreAll, time.Time{}); err != nil {
				_ = fmt.Sprint(err)
			}
		})
	})
}
