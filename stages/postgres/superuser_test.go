//go:build linux

package postgres

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// TestSuperuserFromHost lets a real server read a recipe's pg_hba.conf. The superuser can log in
// only from the host's address, the role app from all. A recipe without the key keeps the rule of
// earlier versions.
func TestSuperuserFromHost(t *testing.T) {
	const host, other = "127.9.0.1", "127.9.0.77"
	r := sqlRecipe(t)
	r.Network.Host, r.Network.AddressUnset, r.Postgres.Networks = host+"/24", false, []string{recipe.NetworkTAP, "127.9.0.0/16"}
	for superuser, refused := range map[string]bool{recipe.SuperuserHost: true, recipe.SuperuserAnywhere: false, "": false} {
		t.Run("superuser "+superuser, func(t *testing.T) {
			r.Postgres.Superuser = superuser
			clients, err := access{}.hba(r)
			if err != nil {
				t.Fatal(err)
			}
			_, clients, _ = strings.Cut(clients, "peer map="+identMap) // the guest's own users
			s := postgrestest.Start(t, freePort(t), "listen_addresses = '127.9.0.2'", clients, nil)
			for _, tt := range []struct {
				role, from string
				refused    bool
			}{{"postgres", host, false}, {"postgres", other, refused}, {"app", host, false}, {"app", other, false}} {
				err := s.LogIn(tt.role, postgrestest.Password, "127.9.0.2", postgrestest.From(tt.from))
				// invalid_authorization_specification: pg_hba.conf rejects the connection.
				var said *pgconn.PgError
				if tt.refused && (!errors.As(err, &said) || said.Code != "28000") || !tt.refused && err != nil {
					t.Errorf("%s from %s: %v, want refused: %t", tt.role, tt.from, err, tt.refused)
				}
				if err := s.LogIn(tt.role, "wrong", "127.9.0.2", postgrestest.From(tt.from)); err == nil {
					t.Errorf("%s from %s logs in with a wrong password", tt.role, tt.from)
				}
			}
		})
	}
}

// TestSuperuserWithoutHost rejects the superuser from the host's address if the recipe's networks
// do not contain it.
func TestSuperuserWithoutHost(t *testing.T) {
	r := sqlRecipe(t)
	r.Postgres.Networks = []string{recipe.NetworkTailnet}
	clients, err := access{}.hba(r)
	if err != nil || strings.Contains(clients, "192.168.100.1") || !strings.Contains(clients, "host  all  postgres  all  reject") {
		t.Errorf("%v\n%s", err, clients)
	}
}

// TestAuthDelay adds the module that delays failed logins to a recipe's own libraries.
func TestAuthDelay(t *testing.T) {
	for own, want := range map[string]string{
		"": "'auth_delay'", "pg_stat_statements": "'pg_stat_statements, auth_delay'", "auth_delay, pg_stat_statements": "'auth_delay, pg_stat_statements'",
	} {
		values := map[string]string{}
		settings := map[string]recipe.Setting{"shared_preload_libraries": recipe.Setting(own), "auth_delay.milliseconds": "1s"}
		withLibraries(values, settings, []string{"auth_delay"})
		withAuthDelay(values, settings)
		if values["shared_preload_libraries"] != want || values["auth_delay.milliseconds"] != "" {
			t.Errorf("%q: %v", own, values)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestSuperuserWithChosenAddresses admits every address that a phone may choose for the host, and
// no peer's.
func TestSuperuserWithChosenAddresses(t *testing.T) {
	r := sqlRecipe(t)
	r.Network.AddressUnset, r.Postgres.Superuser, r.Postgres.Networks = true, recipe.SuperuserHost, []string{recipe.NetworkTAP, recipe.NetworkPeers}
	clients, err := access{}.hba(r)
	if err != nil {
		t.Fatal(err)
	}
	_, clients, _ = strings.Cut(clients, "peer map="+identMap)
	s := postgrestest.Start(t, freePort(t), "listen_addresses = '127.9.0.2'", strings.NewReplacer("192.168.", "127.168.", "10.213.", "127.213.").Replace(clients), nil)
	for from, refused := range map[string]bool{"127.168.100.1": false, "127.168.127.1": false, "127.213.3.1": false, "127.168.101.2": true, "127.168.128.1": true, "127.213.3.65": true} {
		err := s.LogIn("postgres", postgrestest.Password, "127.9.0.2", postgrestest.From(from))
		var said *pgconn.PgError
		if refused && (!errors.As(err, &said) || said.Code != "28000") || !refused && err != nil {
			t.Errorf("from %s: %v, want refused: %t", from, err, refused)
		}
	}
	if err := s.LogIn("app", postgrestest.Password, "127.9.0.2", postgrestest.From("127.168.101.2")); err != nil {
		t.Errorf("a peer's app: %v", err)
	}
}
