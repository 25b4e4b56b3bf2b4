package cluster

import (
	"context"
	"fmt"
)

// A Pooler authenticates clients like the server: it reads a role's verifier with its own role,
// which has no other rights.
type Pooler struct {
	Role string // also the name of the schema with its function; logs in over the server's socket as the system user of the same name
}

// poolerSQL creates the function that the role may call. It does not return superusers. The
// function is always re-created, so that a modified one is replaced; the schema belongs to the
// superuser.
const poolerSQL = `BEGIN;
DO $$ BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '%[2]s' AND nspowner <> 'postgres'::pg_catalog.regrole) THEN
		RAISE 'the schema %[2]s belongs to another role: rename it';
	END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS %[1]s;
REVOKE ALL ON SCHEMA %[1]s FROM PUBLIC;
GRANT USAGE ON SCHEMA %[1]s TO %[1]s;
CREATE OR REPLACE FUNCTION %[1]s.lookup(role name) RETURNS TABLE (usename name, passwd text) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
	SELECT rolname, rolpassword FROM pg_catalog.pg_authid
	WHERE rolname = role AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now()) $$;
REVOKE ALL ON FUNCTION %[1]s.lookup(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION %[1]s.lookup(name) TO %[1]s;
COMMIT`

// Ensure creates the pooler's role, and its function in a database, in the server that listens on
// socket. It returns a description of what it created.
func (p Pooler) Ensure(ctx context.Context, socket, database string) (did []string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("pooler %s in database %s: %w", p.Role, database, err)
		}
	}()
	conn, err := connectTo(ctx, socket, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := query(ctx, conn, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", p.Role)
	if err != nil {
		return nil, err
	}
	role := quoteIdentifier(p.Role)
	if len(rows) == 0 {
		if _, err := conn.Exec(ctx, "CREATE ROLE "+role+" LOGIN NOINHERIT").ReadAll(); err != nil {
			return nil, err
		}
		did = append(did, fmt.Sprintf("role %s was made, for the pooler", p.Role))
	}
	_, err = conn.Exec(ctx, fmt.Sprintf(poolerSQL, role, p.Role)).ReadAll()
	return did, err
}
