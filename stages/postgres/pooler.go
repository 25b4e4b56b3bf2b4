package postgres

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/guestinit"
)

// Paths of the pooler's configuration, in the root file system, and of its certificate, in memory.
const (
	poolerDir    = "/etc/sov/" + recipe.PgBouncer
	poolerConfig = poolerDir + "/pgbouncer.ini"
	poolerHBA    = poolerDir + "/pg_hba.conf"
	poolerTLSDir = "/run/" + recipe.PgBouncer + "-tls"
)

// findPooler returns the path of the pooler's program: Alpine has it in /usr/bin, Debian in
// /usr/sbin.
func findPooler(t *tree.Tree) (string, error) {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/local/bin"} {
		if _, ok := executable(t, path.Join(dir, recipe.PgBouncer)); ok {
			return "/" + path.Join(dir, recipe.PgBouncer), nil
		}
	}
	return "", fmt.Errorf("postgres.pooler: there is no %s in the base image or its packages: add the package %[1]s to packages.install", recipe.PgBouncer)
}

// poolerSettings returns pgbouncer.ini. Clients authenticate by SCRAM. The pooler reads their
// verifiers from the server with its own role, and passes the client's proof on to the server
// (PgBouncer's manual, auth_query and SCRAM pass-through). It does not write files and has no
// console: admin_users is empty.
func poolerSettings(p recipe.Postgres, tls bool) string {
	settings := []string{
		"listen_addr = *", fmt.Sprintf("listen_port = %d", p.Pooler.Port), "unix_socket_dir =", "logfile =", "log_connections = 0", "log_disconnections = 0",
		"auth_type = hba", "auth_hba_file = " + poolerHBA, "auth_user = " + recipe.PgBouncer,
		"auth_query = SELECT usename, passwd FROM " + recipe.PgBouncer + ".lookup($1)",
		"pool_mode = " + p.Pooler.Mode, fmt.Sprintf("default_pool_size = %d", p.Pooler.Size), fmt.Sprintf("max_client_conn = %d", p.Pooler.Clients),
		// JDBC sends it, and the pooler cannot track it for each client.
		"ignore_startup_parameters = extra_float_digits",
		"server_tls_sslmode = disable", // over the Unix socket
		"client_login_timeout = 10",
	}
	if tls {
		certificate, key := poolerFiles(p)
		settings = append(settings, "client_tls_sslmode = allow", "client_tls_cert_file = "+certificate, "client_tls_key_file = "+key, "client_tls_protocols = secure",
			// The pooler does not start without a CA file, although clients do not need a
			// certificate.
			"client_tls_ca_file = "+certificate)
	}
	return fmt.Sprintf("[databases]\n* = host=%s port=%d\n\n[pgbouncer]\n%s\n", socketDir, p.Port, strings.Join(settings, "\n"))
}

// poolerFiles returns the paths of the certificate and its key.
func poolerFiles(p recipe.Postgres) (certificate, key string) {
	if p.TLS.Certificate != "" {
		return poolerTLSDir + "/server.crt", poolerTLSDir + "/server.key"
	}
	return poolerTLSDir + "/server.pem", poolerTLSDir + "/server.pem"
}

// poolerAccess returns the pooler's pg_hba.conf: the lines of hba without those of the superuser,
// in PgBouncer's syntax.
func poolerAccess(r *recipe.Recipe, tls bool) (string, error) {
	networks, host, err := access{tls: tls}.addresses(r)
	if err != nil {
		return "", err
	}
	// PgBouncer's own role has no password, so PgBouncer would accept clients that use its name
	// without one.
	var b strings.Builder
	fmt.Fprintf(&b, "host  all  %s  0.0.0.0/0  reject\nhost  all  %[1]s  ::/0  reject\n", recipe.PgBouncer)
	kind := "host"
	if tls {
		kind = "hostssl"
		for _, address := range append(host, "127.0.0.1/32", "::1/128") {
			fmt.Fprintf(&b, "host  all  all  %s  scram-sha-256\n", address)
		}
	}
	for _, network := range networks {
		fmt.Fprintf(&b, "%s  all  all  %s  scram-sha-256\n", kind, network)
	}
	return b.String(), nil
}

// poolerService describes the pooler to sov-init. It cannot write files, and the only secret that
// it can read is its certificate.
func poolerService(program string, p recipe.Postgres, tls bool) guestspec.Service {
	service := guestspec.Service{
		Name: guestspec.ServicePooler, Command: []string{program, poolerConfig}, User: recipe.PgBouncer, After: []string{guestspec.ServicePostgres},
		Ready:       guestspec.Ready{TCP: fmt.Sprintf("127.0.0.1:%d", p.Pooler.Port)},
		Stop:        guestspec.Stop{Signal: "SIGTERM", Timeout: guestspec.Duration(10 * time.Second)},
		OOMScoreAdj: -500,
		Limits:      guestspec.Limits{Memory: "25%", Processes: 64, Files: 4096, Weight: guestspec.OwnWeight},
	}
	switch certificate, key := poolerFiles(p); {
	case !tls:
	case p.TLS.Certificate != "":
		service.Secrets = []guestspec.SecretFile{{Secret: p.TLS.Certificate, Path: certificate}, {Secret: p.TLS.Key, Path: key}}
	default:
		service.Certificate, service.TailnetCertificate = certificate, p.TailnetCertificate()
	}
	return service
}

// poolerSteps returns the steps that let the pooler look up roles, in each role's database.
func poolerSteps(p recipe.Postgres, socket string) (steps []guestspec.Step) {
	if !p.Pooled() {
		return nil
	}
	seen := map[string]bool{}
	for _, role := range p.Roles {
		if seen[role.Database] {
			continue
		}
		seen[role.Database] = true
		steps = append(steps, guestspec.Step{
			Command: []string{guestinit.ProgramPath, "postgres-pooler", "--socket=" + socket, "--role=" + recipe.PgBouncer, "--database=" + role.Database},
			Timeout: guestspec.Duration(time.Minute),
		})
	}
	return steps
}
