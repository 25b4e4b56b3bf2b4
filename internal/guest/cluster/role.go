package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// SetPassword sets the password of role, in the server that listens on socket (a path that ends in
// .s.PGSQL.PORT). The caller's user needs peer authentication as the superuser. It returns false if
// the stored verifier already matches.
//
// The server gets only the SCRAM verifier, never the password, so its logs, statistics views and
// core dumps cannot contain the password.
func SetPassword(ctx context.Context, socket, role, password string) (changed bool, err error) {
	if password == "" || strings.ContainsRune(password, 0) {
		return false, errors.New("set a role's password: it is empty or holds a NUL")
	}
	conn, err := connect(ctx, socket)
	if err != nil {
		return false, fmt.Errorf("set the password of role %s: %w", role, err)
	}
	defer conn.Close(ctx)
	stored, err := storedPassword(ctx, conn, role)
	if err != nil {
		return false, fmt.Errorf("set the password of role %s: %w", role, err)
	}
	if matches(stored, password) {
		return false, nil
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	v, err := newVerifier(password, salt, scramIterations)
	if err != nil {
		return false, err
	}
	// ALTER ROLE does not support parameters. A verifier does not contain quotes.
	if _, err := conn.Exec(ctx, "ALTER ROLE "+quoteIdentifier(role)+" PASSWORD '"+v.String()+"'").ReadAll(); err != nil {
		return false, fmt.Errorf("set the password of role %s: %w", role, err)
	}
	return true, nil
}

// superuser is the superuser of every cluster that sov creates.
const superuser = "postgres"

// connect opens a session as the superuser, in the database of its name.
func connect(ctx context.Context, socket string) (*pgconn.PgConn, error) {
	return connectTo(ctx, socket, superuser)
}

// connectTo opens a session as the superuser in a database.
func connectTo(ctx context.Context, socket, database string) (*pgconn.PgConn, error) {
	port, ok := strings.CutPrefix(filepath.Base(socket), ".s.PGSQL.")
	number, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil {
		return nil, fmt.Errorf("%s is not the name of a PostgreSQL socket", socket)
	}
	config, err := pgconn.ParseConfig("sslmode=disable application_name=sov-init")
	if err != nil {
		return nil, err
	}
	config.Host, config.Port = filepath.Dir(socket), uint16(number)
	config.User, config.Database, config.Password = superuser, database, ""
	maps.Copy(config.RuntimeParams, sessionSettings)
	config.RuntimeParams["log_min_error_statement"] = "panic"
	return pgconn.ConnectConfig(ctx, config)
}

// sessionSettings are the settings of our own sessions. The log must not contain verifiers, and
// session settings by ALTER SYSTEM, ALTER DATABASE or ALTER ROLE must not affect the machine.
var sessionSettings = map[string]string{
	"log_statement": "none", "log_min_duration_statement": "-1", "statement_timeout": "0", "lock_timeout": "0",
	"default_transaction_read_only": "off", "session_preload_libraries": "", "local_preload_libraries": "",
}

// storedPassword returns role's password in pg_authid, or "".
func storedPassword(ctx context.Context, conn *pgconn.PgConn, role string) (string, error) {
	rows, err := query(ctx, conn, "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1", role)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", errors.New("there is no such role")
	}
	return rows[0][0], nil
}

// quoteIdentifier quotes a name for SQL.
func quoteIdentifier(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
