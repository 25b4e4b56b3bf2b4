package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

// TestWarnings pushes versions with each rule for the superuser over an installed version.
func TestWarnings(t *testing.T) {
	const strong, old, changed = "c4n4ry of the cage", "logs in from every network", "from this version on the superuser"
	none, anywhere := (*vmspec.Postgres)(nil), &vmspec.Postgres{Superuser: "anywhere"}
	host := &vmspec.Postgres{Superuser: "host", Logins: []vmspec.Login{{Role: "app", Database: "shop", Secret: "role-app"}}}
	for name, tt := range map[string]struct {
		pushed, there *vmspec.Postgres
		first         bool
		password      string
		want          []string // a part of each warning
	}{
		"recipe of old":         {pushed: none, there: none, want: []string{old}},
		"with roles, no key":    {pushed: &vmspec.Postgres{Logins: host.Logins}, first: true, want: []string{old}},
		"new machine":           {pushed: host, first: true},
		"kept on purpose":       {pushed: anywhere, there: none},
		"changes over":          {pushed: host, there: none, want: []string{"log in as app, in the database shop"}},
		"changes over, no role": {pushed: &vmspec.Postgres{Superuser: "host"}, there: anywhere, want: []string{changed}},
		"has changed over":      {pushed: host, there: host},
		"weak":                  {pushed: host, there: host, password: "hunter2", want: []string{"sov secrets generate sql postgres"}},
		"unreadable":            {pushed: host, first: false},
	} {
		t.Run(name, func(t *testing.T) {
			root := phonepath.Root(t.TempDir())
			if tt.there != nil || !tt.first && name != "unreadable" {
				place, err := root.VM("sql")
				if err != nil {
					t.Fatal(err)
				}
				text, err := specWith(tt.there).Encode()
				if err == nil {
					err = os.MkdirAll(place.Current(), 0o755)
				}
				if err == nil {
					err = os.WriteFile(filepath.Join(place.Current(), artifact.SpecFile), text, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			password := tt.password
			if password == "" {
				password = strong
			}
			m := &Machine{Artifact: &push.Artifact{Artifact: &installed.Artifact{Spec: specWith(tt.pushed)}}, Secrets: map[string][]byte{"postgres": []byte(password)}}
			got, err := m.warnings(t.Context(), &fleet.Site{Phone: device.Local(root, nil)}, tt.first)
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("%q, %v; want %q", got, err, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("%q, want %q", got[i], want)
				}
			}
		})
	}
}

func specWith(p *vmspec.Postgres) *vmspec.Spec {
	s := artifacttest.Spec("sql")
	s.Ports, s.Postgres = []vmspec.Port{{Service: "postgres", Port: 5432}}, p
	return s
}
