//go:build linux

package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
)

// TestPooler starts real servers with the configuration of a recipe with a pooler. A role logs in
// through it with its password and shares sessions. The superuser and wrong passwords are refused,
// clients from beyond the host must encrypt, and a certificate is replaced while sessions continue.
func TestPooler(t *testing.T) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("apt install pgbouncer")
	}
	const host, other, password = "127.168.100.1", "127.9.0.77", `@%#/:?' "\`
	r := sqlRecipe(t)
	r.Postgres.Pooler = recipe.Pooler{Program: recipe.PgBouncer, Mode: "transaction", Size: 2, Clients: 50, Port: freePort(t)}
	r.Postgres.Networks = []string{recipe.NetworkTAP, "127.9.0.0/16"}
	// The phone's networks are moved to this computer's loopback. The mask of the host's address is
	// not contiguous.
	local := strings.NewReplacer("192.168.", "127.168.", "10.213.", "127.213.")

	// The test's servers use other folders, and the pooler runs as the system user postgres.
	access, err := access{tls: true}.hba(r)
	must(t, err)
	files := "hba_file = '" + postgrestest.OwnFile(t, "hba", []byte(local.Replace(access))) + "'\nident_file = '" +
		postgrestest.OwnFile(t, "ident", []byte(ident(r.Postgres)+identMap+"  postgres  "+recipe.PgBouncer+"\n")) + "'\n"
	s := postgrestest.Start(t, freePort(t), "listen_addresses = ''\n"+files, "", nil)
	s.SetPassword(t, "app", password)
	s.SetPassword(t, "postgres", password)
	r.Postgres.Port = s.Port
	for range 2 {
		if _, err := (cluster.Pooler{Role: recipe.PgBouncer}).Ensure(t.Context(), s.SocketFile(), "app"); err != nil {
			t.Fatal(err)
		}
	}
	pair, replaced := postgrestest.Pair(t), postgrestest.Pair(t)
	certificate := postgrestest.OwnFile(t, "server.pem", pair)
	poolHBA, err := poolerAccess(r, true)
	must(t, err)
	config := strings.NewReplacer(socketDir, filepath.Dir(s.SocketFile()), poolerHBA, postgrestest.OwnFile(t, "hba", []byte(local.Replace(poolHBA))), poolerTLSDir+"/server.pem", certificate).
		Replace(poolerSettings(r.Postgres, true))
	pooler := exec.Command(program, postgrestest.OwnFile(t, "pgbouncer.ini", []byte(config)))
	account, err := user.Lookup("postgres")
	must(t, err)
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	pooler.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	var said strings.Builder
	pooler.Stdout, pooler.Stderr = &said, &said
	must(t, pooler.Start())
	ended := false
	end := func() {
		if !ended {
			ended = true
			pooler.Process.Kill()
			pooler.Wait()
		}
	}
	t.Cleanup(end)

	address := net.JoinHostPort(host, strconv.Itoa(r.Postgres.Pooler.Port))
	connect := func(role, password, from, mode string) (*pgconn.PgConn, error) {
		c, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d sslmode=%s user=%s dbname=app", host, r.Postgres.Pooler.Port, mode, role))
		must(t, err)
		c.Password, c.Fallbacks = password, nil
		c.DialFunc = postgrestest.From(from)
		return pgconn.ConnectConfig(t.Context(), c)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			end()
			t.Fatalf("the pooler does not answer: %v\n%s", err, said.String())
		}
	}
	for _, tt := range []struct {
		role, password, from, mode string
		refused                    bool
	}{
		{"app", password, host, "disable", false}, {"app", password, host, "require", false}, {"app", password, other, "require", false},
		{"app", password, other, "disable", true}, {"app", "wrong", host, "require", true}, {"postgres", password, host, "require", true},
		{recipe.PgBouncer, "", host, "require", true}, {"nobody", password, host, "require", true},
	} {
		conn, err := connect(tt.role, tt.password, tt.from, tt.mode)
		if (err != nil) != tt.refused {
			t.Errorf("%s from %s, %s: %v, want refused: %t", tt.role, tt.from, tt.mode, err, tt.refused)
		}
		if err == nil {
			if rows, err := conn.Exec(t.Context(), "SELECT current_user").ReadAll(); err != nil || string(rows[0].Rows[0][0]) != tt.role {
				t.Errorf("%s has another role in the session: %v", tt.role, err)
			}
			conn.Close(t.Context())
		}
	}

	// Ten clients at once share two sessions.
	servers := map[string]bool{}
	var open []*pgconn.PgConn
	for range 10 {
		conn, err := connect("app", password, other, "require")
		must(t, err)
		defer conn.Close(context.Background())
		open = append(open, conn)
		rows, err := conn.Exec(t.Context(), "SELECT pg_backend_pid()").ReadAll()
		must(t, err)
		servers[string(rows[0].Rows[0][0])] = true
	}
	if len(servers) > 2 {
		t.Errorf("10 clients have %d sessions of the server", len(servers))
	}

	before := shown(t, address)
	must(t, os.WriteFile(certificate, replaced, 0o600))
	must(t, pooler.Process.Signal(syscall.SIGHUP))
	for deadline := time.Now().Add(20 * time.Second); shown(t, address) == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the pooler shows the old certificate")
		}
	}
	for _, conn := range open {
		if _, err := conn.Exec(t.Context(), "SELECT 1").ReadAll(); err != nil {
			t.Errorf("a session that was open: %v", err)
		}
	}
	end()
	if strings.Contains(said.String(), "SCRAM-SHA-256$") {
		t.Error("the pooler's log has verifiers")
	}
}

// shown returns the certificate that a server presents.
func shown(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	_, err = conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)) // SSLRequest
	answer := make([]byte, 1)
	_, readErr := io.ReadFull(conn, answer)
	must(t, errors.Join(err, readErr))
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	must(t, client.Handshake())
	return string(client.ConnectionState().PeerCertificates[0].Raw)
}

// TestPoolerService checks that the pooler has the least rights, and that the image must contain
// it.
func TestPoolerService(t *testing.T) {
	r := sqlRecipe(t)
	r.Postgres.Pooler = recipe.Pooler{Program: recipe.PgBouncer, Mode: "transaction", Size: 2, Clients: 50, Port: 6432}
	own := poolerService("/usr/bin/pgbouncer", r.Postgres, true)
	if own.Certificate != "/run/pgbouncer-tls/server.pem" || len(own.Writable()) != 0 || own.User != recipe.PgBouncer || len(own.Rights.Capabilities) != 0 {
		t.Errorf("%+v", own)
	}
	r.Postgres.TLS = recipe.TLS{Certificate: "crt", Key: "key"}
	if users := poolerService("/p", r.Postgres, true); users.Certificate != "" || len(users.Secrets) != 2 {
		t.Errorf("%+v", users)
	}
	if plain := poolerService("/p", r.Postgres, false); plain.Certificate != "" || len(plain.Secrets) != 0 || strings.Contains(poolerSettings(r.Postgres, false), "tls_cert") {
		t.Errorf("%+v", plain)
	}
	root := tree.New()
	if _, err := findPooler(root); err == nil || !strings.Contains(err.Error(), "add the package pgbouncer") {
		t.Error(err)
	}
	must(t, root.Put("usr/bin/pgbouncer", &tree.Inode{Mode: tree.S_IFREG | 0o755, Content: tree.Bytes(nil)}))
	if program, err := findPooler(root); err != nil || program != "/usr/bin/pgbouncer" {
		t.Error(program, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
