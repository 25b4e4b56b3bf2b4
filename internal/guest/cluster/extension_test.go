//go:build linux

package cluster

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestExtensions creates and updates extensions of this computer's contrib repeatedly.
func TestExtensions(t *testing.T) {
	s := startServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if s.exec(t, "SELECT count(*) FROM pg_available_extension_versions WHERE name = 'pg_trgm' AND version IN ('1.3', '1.4')") != "2" {
		t.Skip("this computer's PostgreSQL has no contrib")
	}
	for _, tt := range []struct {
		name      string
		extension Extension
		before    string // SQL
		did       string // empty: nothing
		version   string
	}{
		{"created", Extension{Name: "pg_trgm", Version: "1.3"}, "", "extension pg_trgm was created in database postgres", "1.3"},
		{"again", Extension{Name: "pg_trgm", Version: "1.3"}, "", "", "1.3"},
		{"newer", Extension{Name: "pg_trgm", Version: "1.4"}, "", "was updated from 1.3 to 1.4", "1.4"},
		{"newest", Extension{Name: "pg_trgm"}, "", "was updated from 1.4 to 1.6", "1.6"},
		{"newest again", Extension{Name: "pg_trgm"}, "", "", "1.6"},
		{"older than before, as after a roll back", Extension{Name: "pg_trgm", Version: "1.3"}, "", "stays at version 1.6: the image has no update path to 1.3", "1.6"},
		{"of a newer image", Extension{Name: "pg_trgm"}, "UPDATE pg_extension SET extversion = '99' WHERE extname = 'pg_trgm'", "stays at version 99", "99"},
		{"in a schema", Extension{Name: "uuid-ossp", Schema: "with \"quotes\""}, "", "extension uuid-ossp was created", "1.1"},
		{"with what it needs", Extension{Name: "earthdistance"}, "", "earthdistance was created", "1.1"},
		{"a role's schema in its way", Extension{Name: "citext"}, "CREATE SCHEMA postgres", "citext was created", "1.6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != "" {
				s.exec(t, tt.before)
			}
			did, err := tt.extension.Ensure(ctx, s.socket, "postgres")
			text := strings.Join(did, "\n")
			if err != nil || (text == "") != (tt.did == "") || !strings.Contains(text, tt.did) {
				t.Errorf("did %q, %v, want %q", did, err, tt.did)
			}
			if got := s.exec(t, "SELECT extversion FROM pg_extension WHERE extname = '"+tt.extension.Name+"'"); got != tt.version {
				t.Errorf("version %s, want %s", got, tt.version)
			}
		})
	}
	if got := s.exec(t, "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'citext'"); got != "public" {
		t.Errorf("citext is in the schema %s", got)
	}
	if _, err := (Extension{Name: "nobody"}).Ensure(ctx, s.socket, "postgres"); err == nil || !strings.Contains(err.Error(), "extension nobody in database postgres") {
		t.Errorf("an extension that is not there: %v", err)
	}
}
