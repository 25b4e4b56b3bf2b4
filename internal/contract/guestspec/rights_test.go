package guestspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestViewOfAService(t *testing.T) {
	database := Service{Name: "postgres", Rights: Rights{Write: []string{"/data", "/data/postgres"}},
		Directories: []Directory{{Path: "/run/postgresql"}}, Tmpfs: []Tmpfs{{Path: "/data/postgres/pg_dynshmem"}}}
	web := Service{Name: "web", Directories: []Directory{{Path: "/data/web"}, {Path: "/data/web/cache"}, {Path: "/data/web-logs"}}}
	// A service that names no directories may write all of /data, except for the directories of
	// other services.
	old := Service{Name: "old", Rights: Rights{Write: []string{"/data"}}}
	list := []Service{database, web, old}
	for _, tt := range []struct {
		service          Service
		writable, hidden []string
	}{
		{database, []string{"/data", "/run/postgresql"}, []string{"/data/web", "/data/web-logs", "/data/web/cache"}},
		{web, []string{"/data/web", "/data/web-logs"}, []string{"/data/postgres", "/data/postgres/pg_dynshmem"}},
		{old, []string{"/data"}, []string{"/data/postgres", "/data/postgres/pg_dynshmem", "/data/web", "/data/web-logs", "/data/web/cache"}},
	} {
		if d := cmp.Diff(tt.writable, tt.service.Writable()); d != "" {
			t.Errorf("%s may write: %s", tt.service.Name, d)
		}
		if d := cmp.Diff(tt.hidden, tt.service.Hidden(list, []string{"/data"})); d != "" {
			t.Errorf("%s must not see: %s", tt.service.Name, d)
		}
	}
}

func TestCapabilityNumbers(t *testing.T) {
	for name, want := range map[string]int{"chown": 0, "kill": 5, "net_admin": 12, "sys_admin": 21, "mknod": 27, "bpf": 39, "checkpoint_restore": 40} {
		if got, ok := Capability(name); got != want || !ok {
			t.Errorf("%s is %d (%t), want %d", name, got, ok, want)
		}
	}
	if _, ok := Capability("CAP_CHOWN"); ok {
		t.Error("CAP_CHOWN is taken for a name")
	}
}

// TestSecretsAreHidden: a service cannot see the secret files of other services, unless they are
// its files as well.
func TestSecretsAreHidden(t *testing.T) {
	a := Service{Name: "a", Secrets: []SecretFile{{Secret: "x", Path: "/run/secrets/a/x"}, {Secret: "y", Path: "/run/both/y"}}}
	b := Service{Name: "b", Secrets: []SecretFile{{Secret: "y", Path: "/run/both/y"}}}
	all := []Service{a, b}
	if got := a.Hidden(all, []string{DataPath}); len(got) != 0 {
		t.Errorf("of b, a does not see %q", got)
	}
	if got := b.Hidden(all, []string{DataPath}); len(got) != 1 || got[0] != "/run/secrets/a/x" {
		t.Errorf("of a, b does not see %q", got)
	}
}
