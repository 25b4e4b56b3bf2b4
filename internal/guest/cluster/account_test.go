//go:build linux

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestAccounts(t *testing.T) {
	s := startServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, tt := range []struct {
		account Account
		did     []string
	}{
		{Account{Role: "app", Database: "shop"}, []string{"role app was made", "database shop was made"}},
		{Account{Role: "app", Database: "shop"}, nil},
		{Account{Role: "app", Database: "shop", Superuser: true}, []string{"role app was changed"}},
		{Account{Role: "app", Database: "shop"}, []string{"role app was changed"}},
		{Account{Role: "app", Database: "second"}, []string{"database second was made"}},
		{Account{Role: "reader", Database: "shop"}, []string{"role reader was made"}},
		{Account{Role: "with \"quotes\"", Database: "of 'its' own"}, []string{`role with "quotes" was made`, "database of 'its' own was made"}},
	} {
		did, err := tt.account.Ensure(ctx, s.socket)
		if err != nil || !slices.Equal(did, tt.did) {
			t.Errorf("%+v: did %q, %v, want %q", tt.account, did, err, tt.did)
		}
	}
	if owner := s.exec(t, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'"); owner != "app" {
		t.Errorf("shop belongs to %s", owner)
	}
	s.exec(t, "REVOKE ALL ON DATABASE shop FROM PUBLIC")
	reader := Account{Role: "reader", Database: "shop"}
	if did, err := reader.Ensure(ctx, s.socket); err != nil || !slices.Equal(did, []string{"role reader was let into database shop"}) {
		t.Errorf("did %q, %v", did, err)
	}
	if did, err := reader.Ensure(ctx, s.socket); err != nil || did != nil {
		t.Errorf("again: did %q, %v", did, err)
	}
	s.exec(t, "ALTER ROLE app NOLOGIN")
	if did, err := (Account{Role: "app", Database: "shop"}).Ensure(ctx, s.socket); err != nil || !slices.Equal(did, []string{"role app was changed"}) {
		t.Errorf("did %q, %v", did, err)
	}
}

// TestPasswordsWithPgx logs in with pgx over TCP, into the account's own database.
//
// pgx prepares passwords by RFC 8265, which keeps ligatures, soft hyphens and similar characters,
// not by SASLprep as RFC 5802 requires and libpq does. The test therefore passes prepared
// passwords.
func TestPasswordsWithPgx(t *testing.T) {
	s := startServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	account := Account{Role: "app", Database: "shop"}
	if _, err := account.Ensure(ctx, s.socket); err != nil {
		t.Fatal(err)
	}
	logIn := func(password string) error {
		config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=app dbname=shop sslmode=disable", s.port))
		must(t, err)
		config.Password = password
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS t (n int)")
		return err
	}
	if err := logIn(""); err == nil {
		t.Error("a role without a password may log in")
	}
	for _, password := range append(slices.Clone(passwords), strings.Repeat("k", 1024), "\n\n \t", " leading and trailing ") {
		if changed, err := SetPassword(ctx, s.socket, "app", password); err != nil || !changed {
			t.Errorf("%q: changed %t, %v", password, changed, err)
		}
		if err := logIn(saslPrep(password)); err != nil {
			t.Errorf("pgx cannot log in with %q: %v", password, err)
		}
		if err := logIn(saslPrep(password) + "x"); err == nil {
			t.Errorf("pgx can log in with another password than %q", password)
		}
	}
}

func TestExamine(t *testing.T) {
	s := startServer(t)
	conn, err := connect(t.Context(), s.socket)
	must(t, err)
	defer conn.Close(context.Background())
	h, err := examine(t.Context(), s.socket)
	if err != nil || h.Connections != 1 || !strings.HasPrefix(h.Version, "1") {
		t.Errorf("got %+v, %v", h, err)
	}
	if _, err := examine(t.Context(), "/nowhere/.s.PGSQL.5432"); err == nil {
		t.Error("a server that is not there is well")
	}
}
