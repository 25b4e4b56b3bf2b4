package install

import (
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/push"
)

// TestSharedSecret: the secret of another machine comes from the computer, or else from that
// machine's secrets on the phone. If neither has it, the error names the command to type.
func TestSharedSecret(t *testing.T) {
	root := phonepath.Root(t.TempDir())
	s := &fleet.Site{Phone: device.Local(root, nil), Out: io.Discard, ErrOut: io.Discard}
	here := map[string][]byte{}
	m := &Machine{
		Artifact: &push.Artifact{Artifact: &installed.Artifact{Manifest: &manifest.Manifest{Name: "web"},
			Spec: &vmspec.Spec{Secrets: []vmspec.Secret{{Name: "key", Generate: true}, {Name: "db", From: "sql/role-app"}}}}},
		MakePassword: func(string) ([]byte, error) { return []byte("made"), nil },
		Other:        func(machine, name string) ([]byte, error) { return here[machine+"/"+name], nil },
	}
	want := func(when, db, fault string) {
		t.Helper()
		report := &Report{Name: "web"}
		all, err := m.secrets(t.Context(), s, report)
		if fault != "" {
			if err == nil || !strings.Contains(err.Error(), fault) {
				t.Errorf("%s: %v, want %q", when, err, fault)
			}
			return
		}
		if err != nil || string(all["db"]) != db || string(all["key"]) != "made" || len(report.Generated) != 1 {
			t.Errorf("%s: %q, %v, generated %q", when, all["db"], err, report.Generated)
		}
	}
	want("nowhere", "", "push sql first, or type `sov secrets set sql role-app`")
	sql, err := root.VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(sql.Secrets(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path.Join(sql.Secrets(), "role-app"), []byte("of the phone"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("on the phone", "of the phone", "")
	here["sql/role-app"] = []byte("of the computer")
	want("on the computer", "of the computer", "")
}
