package recipe

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNeededSecrets: the password of a role that a service uses is generated, even if the database
// is not published.
func TestNeededSecrets(t *testing.T) {
	r, err := Parse("tiny.yaml", []byte(minimal+`
postgres: {enabled: true, roles: [{name: app}, {name: stats}]}
secrets: [{name: smtp}]
services:
  - {name: app, command: [/bin/app], secrets: [{name: smtp}, {name: role-app}], environment: {P: {secret: postgres}, A: {secret: role-app}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Secret{{Name: "smtp"}, {Name: "role-app", Generate: true}, {Name: "postgres", Generate: true}}
	if diff := cmp.Diff(want, r.NeededSecrets()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"postgres", "role-app", "role-stats", "smtp"}, r.Secrets()); diff != "" {
		t.Error(diff)
	}
}
