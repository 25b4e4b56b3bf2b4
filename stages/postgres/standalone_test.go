package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// TestStandaloneAccess uses the machine's own subnet instead of the phone's. Only PostgreSQL knows
// it.
func TestStandaloneAccess(t *testing.T) {
	for _, unset := range []bool{false, true} {
		r := &recipe.Recipe{}
		r.Network.Host, r.Network.AddressUnset = "192.168.100.1/24", unset
		r.Postgres.Networks, r.Postgres.Superuser, r.Postgres.User = []string{"tap", "tailnet", "10.1.0.0/16"}, recipe.SuperuserHost, "postgres"
		got, err := access{tls: true, standalone: true}.hba(r)
		if err != nil {
			t.Fatal(err)
		}
		want := `# The init sets the password of postgres through the local socket.
local  all  postgres  peer map=sov

# Services of this machine log in as their own roles, with a password.
local  all  all  scram-sha-256

# The superuser may log in only from the host.
hostssl  all  postgres  samenet  scram-sha-256
host  all  postgres  all  reject

# Other clients connect over a network, with a password that is never sent.
host  all  all  samehost  scram-sha-256

# What leaves the machine's host is encrypted.
hostssl  all  all  samenet  scram-sha-256
hostssl  all  all  100.64.0.0/10  scram-sha-256
hostssl  all  all  fd7a:115c:a1e0::/48  scram-sha-256
hostssl  all  all  10.1.0.0/16  scram-sha-256
`
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("address unset %t (-want +got)\n%s", unset, diff)
		}
	}
}
