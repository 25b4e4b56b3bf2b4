//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// TestEncryption lets a real server read a recipe's pg_hba.conf. Clients from the host or the
// machine itself may connect without TLS, other hosts may not. The superuser still connects only
// from the host.
func TestEncryption(t *testing.T) {
	const host, self, other = "127.9.0.1", "127.9.0.2", "127.9.0.77"
	r := sqlRecipe(t)
	r.Network.AddressUnset = false
	r.Network.Host, r.Postgres.Networks = host+"/24", []string{recipe.NetworkTAP, "127.9.0.0/16"}
	clients, err := access{tls: true}.hba(r)
	if err != nil {
		t.Fatal(err)
	}
	_, clients, _ = strings.Cut(clients, "peer map="+identMap) // the guest's own users
	// All of 127.0.0.0/8 belongs to this computer, and the interface has one address. Therefore
	// samehost is replaced.
	clients = strings.ReplaceAll(clients, "samehost", self+"/32")
	s := postgrestest.Start(t, freePort(t), "listen_addresses = '127.9.0.2'\n"+postgrestest.TLS(t), clients, nil)
	for _, tt := range []struct {
		role, from, mode string
		refused          bool
	}{
		{"postgres", host, "disable", false}, {"app", host, "disable", false}, {"app", self, "disable", false}, {"app", other, "disable", true},
		{"postgres", host, "require", false}, {"app", other, "require", false}, {"postgres", other, "require", true},
	} {
		s.Mode = tt.mode
		err := s.LogIn(tt.role, postgrestest.Password, self, postgrestest.From(tt.from))
		var said *pgconn.PgError
		if tt.refused && (!errors.As(err, &said) || said.Code != "28000") || !tt.refused && err != nil {
			t.Errorf("%s from %s with sslmode=%s: %v, want refused: %t", tt.role, tt.from, tt.mode, err, tt.refused)
		}
	}
}

// TestCertificateOfTheUser checks the certificate of each setting: the machine's own, the tailnet's
// in the same file, the two secrets of the user, and none.
func TestCertificateOfTheUser(t *testing.T) {
	server := &Server{Dir: "/server", Major: 17, ICU: true, TLS: true}
	for _, tt := range []struct {
		tls         recipe.TLS
		certificate string
		tailnet     bool
		secrets     string
	}{
		{recipe.TLS{From: recipe.TLSOwn}, ownFile, false, "[]"},
		{recipe.TLS{From: recipe.TLSTailscale}, ownFile, true, "[]"},
		{recipe.TLS{Certificate: "crt", Key: "key"}, "", false, fmt.Sprint([]guestspec.SecretFile{{Secret: "crt", Path: certificateFile}, {Secret: "key", Path: keyFile}})},
		{recipe.TLS{From: recipe.TLSOff}, "", false, "[]"},
	} {
		r := sqlRecipe(t)
		r.Postgres.TLS = tt.tls
		service, err := (&stage{Options{Recipe: r}}).service(server)
		if err != nil || service.Certificate != tt.certificate || service.TailnetCertificate != tt.tailnet || fmt.Sprint(service.Secrets) != tt.secrets {
			t.Errorf("%+v: %q, %v, %v", tt.tls, service.Certificate, service.Secrets, err)
		}
	}
}
