//go:build linux

package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
)

// restorable starts a server with databases of a role, and returns it with a backup from before
// they were changed.
func restorable(t *testing.T) (s server, saved Server, stream []byte) {
	t.Helper()
	s = startServer(t)
	saved = Server{Socket: s.socket}
	s.exec(t, "CREATE ROLE app LOGIN PASSWORD 'x'")
	s.exec(t, "CREATE ROLE gone; GRANT app TO gone WITH ADMIN OPTION; CREATE ROLE heir; GRANT gone TO heir; ALTER ROLE gone SET work_mem = '5MB'")
	for _, name := range []string{"first", "second"} {
		s.exec(t, "CREATE DATABASE "+name+" OWNER app")
		s.execIn(t, name, "CREATE TABLE t AS SELECT 'before' t")
	}
	s.execIn(t, "first", "CREATE TABLE g (); ALTER TABLE g OWNER TO gone; GRANT CREATE ON DATABASE first TO heir")
	var b bytes.Buffer
	must(t, saved.Backup(t.Context(), &b))
	for _, name := range []string{"first", "second"} {
		s.execIn(t, name, "UPDATE t SET t = 'after'")
	}
	s.execIn(t, "first", "DROP OWNED BY gone, heir; DROP ROLE gone, heir")
	return s, saved, b.Bytes()
}

// TestPowerCutDuringRestore kills the server and the restoring process during a restore.
func TestPowerCutDuringRestore(t *testing.T) {
	s, saved, stream := restorable(t)
	names := s.names(t)
	in, feed := io.Pipe()
	begun := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		_, err := saved.Restore(t.Context(), in, func(text string) { begun <- text })
		ended <- err
	}()
	go feed.Write(stream) // all of it, then nothing: the computer has no power either
	for text := range begun {
		if text == "taking their places" {
			break
		}
		if text == "restoring database second" { // so that the first is complete
			break
		}
	}
	must(t, s.process.Kill())
	feed.CloseWithError(errors.New("the power is cut"))
	if err := <-ended; err == nil {
		t.Fatal("a restore ends well without a server")
	}
	_, err := s.process.Wait()
	must(t, err)
	s.start(t)
	if left := s.names(t); !strings.Contains(left, ours) {
		t.Fatalf("the restore has left nothing: %s", left)
	}
	dropped, err := DropLeftovers(t.Context(), s.socket)
	if err != nil || len(dropped) == 0 {
		t.Errorf("dropped %q, %v", dropped, err)
	}
	if now := s.names(t); now != names {
		t.Errorf("there are %s, want %s", now, names)
	}
	for _, name := range []string{"first", "second"} {
		if got := s.execIn(t, name, "SELECT t FROM t"); got != "after" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if did, err := saved.Restore(t.Context(), bytes.NewReader(stream), func(string) {}); err != nil || !slices.Contains(did.Databases, "second") || len(did.Roles) != 2 {
		t.Errorf("the next restore: %+v, %v", did, err)
	}
	if dropped, err := DropLeftovers(t.Context(), s.socket); err != nil || len(dropped) != 0 {
		t.Errorf("dropped after a restore that is done: %q, %v", dropped, err)
	}
	if got := s.exec(t, "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'"); got != "app gone heir postgres" {
		t.Errorf("there are the roles %s", got)
	}
}

// TestRestoreWithoutRoles restores a backup whose roles the server lacks. They are created if the
// backup contains them, otherwise the restore is rejected.
func TestRestoreWithoutRoles(t *testing.T) {
	s, saved, stream := restorable(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.exec(t, "DROP DATABASE first")
	s.exec(t, "DROP DATABASE second")
	s.exec(t, "DROP ROLE app")
	names := s.names(t)
	var without bytes.Buffer
	parts, w := backup.NewReader(bytes.NewReader(stream)), backup.NewWriter(&without)
	for {
		part, content, err := parts.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if part.Kind == backup.KindRoles {
			_, err = io.Copy(io.Discard, content)
		} else if err = w.Begin(part); err == nil {
			_, err = io.Copy(w, content)
			err = errors.Join(err, w.End())
		}
		must(t, err)
	}
	must(t, w.Close())
	_, err := saved.Restore(ctx, &without, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), `role "app" does not exist`) {
		t.Errorf("without its role: %v", err)
	}
	if now := s.names(t); now != names {
		t.Errorf("there are %s, want %s", now, names)
	}
	did, err := saved.Restore(ctx, bytes.NewReader(stream), func(string) {})
	if err != nil || !slices.Equal(did.Roles, []string{"app", "gone", "heir"}) {
		t.Errorf("with its role: %+v, %v", did, err)
	}
	if got := s.execIn(t, "second", "SELECT pg_get_userbyid(datdba) || t FROM t, pg_database WHERE datname = 'second'"); got != "appbefore" {
		t.Errorf("second: %s", got)
	}
}
