package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/push"
)

// TestCheckPostgres: a version whose PostgreSQL cannot read a phone's databases is refused. If the
// server does not answer, the installed version's PostgreSQL counts.
func TestCheckPostgres(t *testing.T) {
	of := func(majors ...int) *manifest.Manifest {
		return &manifest.Manifest{Format: manifest.Format, Name: "sql", Arch: "arm64", Postgres: majors}
	}
	old := of()
	old.Inputs = []manifest.Input{{Kind: "package", Name: "postgresql13"}, {Kind: "package", Name: "postgresql13-client"}, {Kind: "image", Name: "postgresql17"}}
	for name, tt := range map[string]struct {
		there, pushed *manifest.Manifest
		noData        bool
		want          string // in the error; empty: success
	}{
		"the same":                  {there: of(15), pushed: of(15)},
		"a newer one":               {there: of(15), pushed: of(17), want: "`sov upgrade sql` upgrades them"},
		"an older one":              {there: of(17), pushed: of(15), want: "--set postgres.major=17"},
		"one that upgrades":         {there: of(15), pushed: of(15, 17)},
		"one that upgrades another": {there: of(13), pushed: of(15, 17), want: "to PostgreSQL 13"},
		"of a release of old":       {there: old, pushed: of(17), want: "to PostgreSQL 13"},
		"no databases yet":          {there: of(15), pushed: of(17), noData: true},
		"nothing is known":          {there: of(), pushed: of(17)},
		"no PostgreSQL":             {there: of(15), pushed: of()},
		"two, and it does not run":  {there: of(15, 17), pushed: of(17), want: "sov start sql"},
		"not installed":             {pushed: of(17)},
	} {
		t.Run(name, func(t *testing.T) {
			root := phonepath.Root(t.TempDir())
			place, err := root.VM("sql")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(place.Current(), 0o755); err != nil {
				t.Fatal(err)
			}
			if tt.there != nil {
				text, err := tt.there.Encode()
				if err == nil {
					err = os.WriteFile(filepath.Join(place.Current(), artifact.ManifestFile), text, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !tt.noData {
				if err := os.WriteFile(place.Data(), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m := &Machine{Artifact: &push.Artifact{Artifact: &installed.Artifact{Manifest: tt.pushed}}}
			err = m.checkPostgres(t.Context(), &fleet.Site{Phone: device.Local(root, nil)})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	for version, want := range map[string]int{"17.6": 17, "15.18 (Debian 15.18-0+deb12u1)": 15, "18beta1": 18, "9.6.1": 0, "": 0} {
		if got := majorOf(version); got != want {
			t.Errorf("%q is of %d, want %d", version, got, want)
		}
	}
}
