//go:build linux

package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// stream sends a request that may take long to the endpoint, and returns the status and body of its
// response.
func (v *boot) stream(method, path, bearer string, body io.Reader) (int, []byte) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+net.JoinHostPort(guestAddress, strconv.Itoa(guestspec.EndpointPort))+path, body)
	must(v.t, err)
	request.Header.Set("Authorization", "Bearer "+bearer)
	response, err := (&http.Client{Transport: &http.Transport{DialContext: v.dial, DisableKeepAlives: true}}).Do(request)
	must(v.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	must(v.t, err)
	return response.StatusCode, answer
}

// lastEvent returns the last event of a restore.
func lastEvent(t *testing.T, answer []byte) backup.Event {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(answer)), "\n")
	var e backup.Event
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return e
}

func TestBackup(t *testing.T) {
	b := newPostgresBox(t)
	b.spec.Services = append(b.spec.Services, forge()) // saved with the databases, in one stream
	b.config.Secrets = map[string]string{"postgres": "c4n4ry password"}
	v := b.boot(t)
	v.waitReady()
	ask := func(sql string) string {
		t.Helper()
		answer, err := v.query("c4n4ry password", sql)
		must(t, err)
		return answer
	}
	ask("CREATE TABLE kept AS SELECT generate_series(1, 1000) n")

	if code, _ := v.stream(http.MethodGet, guestapi.PathBackup, "no token", nil); code != http.StatusUnauthorized {
		t.Errorf("without the token: %d", code)
	}
	if code, _ := v.stream(http.MethodPost, guestapi.PathRestore, "no token", strings.NewReader("x")); code != http.StatusUnauthorized {
		t.Errorf("without the token: %d", code)
	}
	code, saved := v.stream(http.MethodGet, guestapi.PathBackup, token, nil)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, saved)
	}
	ask("DELETE FROM kept")
	change, err := v.run("/bin/sh", "-c", "echo two >/data/forge/repos/a/file")
	if err != nil {
		t.Fatal(change, err)
	}
	wantFile := func(want string) {
		t.Helper()
		if got, err := v.run("/bin/cat", "/data/forge/repos/a/file"); err != nil || got != want {
			t.Errorf("forge has %q, want %q: %v", got, want, err)
		}
	}

	code, answer := v.stream(http.MethodPost, guestapi.PathRestore, token, bytes.NewReader(saved[:len(saved)-1]))
	if e := lastEvent(t, answer); code != http.StatusOK || !strings.Contains(e.Fault, "nothing was changed") || e.Done != nil {
		t.Errorf("a part of it: %d %+v", code, e)
	}
	if got := ask("SELECT count(*) FROM kept"); got != "0" {
		t.Errorf("after a part of it there are %s rows", got)
	}
	wantFile("two")

	// While a restore runs, another one is rejected.
	body, feed := io.Pipe()
	done := make(chan []byte, 1)
	go func() {
		_, answer := v.stream(http.MethodPost, guestapi.PathRestore, token, body)
		done <- answer
	}()
	feed.Write(saved[:100])
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := v.run("/usr/bin/pgrep", "-f", "postgres-restore"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the restore does not begin")
		}
	}
	if code, answer := v.stream(http.MethodGet, guestapi.PathBackup, token, nil); code != http.StatusConflict || !strings.Contains(string(answer), "under way") {
		t.Errorf("a backup in the middle of a restore: %d", code)
	}
	feed.Write(saved[100:])
	feed.Close()
	if e := lastEvent(t, <-done); e.Done == nil || strings.Join(e.Done.Databases, " ") != "postgres shop" || strings.Join(e.Done.Services, " ") != "forge" {
		t.Errorf("%+v", e)
	}
	wantFile("one")
	if got := ask("SELECT count(*) FROM kept"); got != "1000" {
		t.Errorf("there are %s rows", got)
	}
	v.shutDown()
	wantNoSecret(t, v)
}
