package secrets

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// TestComplete: the source of each required secret, and the command that an error names.
func TestComplete(t *testing.T) {
	shared := vmspec.Secret{Name: "db", From: "sql/role-app"}
	for name, tt := range map[string]struct {
		need        vmspec.Secret
		kept, has   bool
		other       string
		want, fault string
	}{
		"kept":                         {need: vmspec.Secret{Name: "smtp"}, kept: true, want: "kept"},
		"on the phone":                 {need: vmspec.Secret{Name: "smtp"}, has: true},
		"nowhere":                      {need: vmspec.Secret{Name: "smtp"}, fault: "type `sov secrets set web smtp`"},
		"generated":                    {need: vmspec.Secret{Name: "key", Generate: true}, want: "made"},
		"generated before":             {need: vmspec.Secret{Name: "key", Generate: true}, has: true},
		"another machine's":            {need: shared, other: "theirs", want: "theirs"},
		"another machine's, again":     {need: shared, other: "theirs", has: true, want: "theirs"},
		"another's, given by hand":     {need: shared, other: "theirs", kept: true, want: "kept"},
		"another's, only on the phone": {need: shared, has: true},
		"another machine has none":     {need: shared, fault: "push sql first, or type `sov secrets set sql role-app`"},
	} {
		t.Run(name, func(t *testing.T) {
			kept := map[string][]byte{"postgres": []byte("p")}
			if tt.kept {
				kept[tt.need.Name] = []byte("kept")
			}
			all, made, err := Places{
				Has:  func(string) (bool, error) { return tt.has, nil },
				Make: func(string) ([]byte, error) { return []byte("made"), nil },
				Other: func(machine, name string) ([]byte, error) {
					if tt.other == "" || machine+"/"+name != tt.need.From {
						return nil, nil
					}
					return []byte(tt.other), nil
				},
			}.Complete("web", []vmspec.Secret{tt.need}, kept)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("%v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil || string(all[tt.need.Name]) != tt.want || string(all["postgres"]) != "p" {
				t.Errorf("%q, %v, want %q", slices.Sorted(maps.Keys(all)), err, tt.want)
			}
			if (len(made) > 0) != (tt.want == "made") {
				t.Errorf("made %q", made)
			}
		})
	}
}
