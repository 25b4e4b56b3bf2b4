package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
)

// TestNodeIsRemoved verifies that sov removes the node of a machine that was removed or has lost
// its state. It uses Tailscale's API with a token that only this computer has.
func TestNodeIsRemoved(t *testing.T) {
	const token = "tskey-api-c4n4ry"
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	var asked []string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		asked = append(asked, fmt.Sprintf("%s %s %t", r.Method, r.URL.Path, user == token))
		w.WriteHeader(status)
		fmt.Fprint(w, `{"connectedToControl":false}`)
	}))
	defer server.Close()
	t.Setenv("SOV_TAILSCALE_API", server.URL)
	s := useADB(t)
	p := androidtest.New(t, androidtest.Options{})
	s.Connect(p.ServeADB(androidtest.ADBOptions{}))
	// This sov-runner records its arguments, input and environment.
	pretend(t, p, `echo "$*" >>/data/heard; cat >>/data/heard; env >>/data/heard
		case "$1" in
		status) echo '{"name":"sql","crosvm_alive":true,"tailnet":{"state":"NeedsLogin","online":false,"old_node":{"id":"nOLDCNTRL","name":"old"}}}';;
		*) echo "$1: done";;
		esac`)
	node := func() {
		p.Shell(`mkdir -p /data/sovereign/vms/sql; echo '{"id":"n5SUKe8CNTRL","name":"sovereign-sql"}' >/data/sovereign/vms/sql/node.json`)
	}
	run := func(what string, wantStatus int, wantAsked, says string, args ...string) {
		t.Helper()
		asked = nil
		out, errOut, got := cli(t, args...)
		if got != wantStatus || strings.Join(asked, ", ") != wantAsked || !strings.Contains(errOut, says) || says == "" && errOut != "" {
			t.Errorf("%s: status %d, asked %q: %s%s", what, got, asked, out, errOut)
		}
		if strings.Contains(out+errOut, "c4n4ry") {
			t.Errorf("%s: the token is told: %s%s", what, out, errOut)
		}
	}
	remove := []string{"remove", "sql", "--data", "--yes"}
	node()
	run("without a token", exitDone, "", "", remove...)
	if status := execute(t.Context(), []string{"secrets", "set", "sql", "tailscale-api"}, strings.NewReader(token+"\n"), io.Discard, io.Discard); status != exitDone {
		t.Fatalf("secrets set: status %d", status)
	}
	run("removed", exitDone, "GET /api/v2/device/n5SUKe8CNTRL true, DELETE /api/v2/device/n5SUKe8CNTRL true", "remove: the node sovereign-sql (n5SUKe8CNTRL) was removed", remove...)
	run("its data stay", exitDone, "", "", "remove", "sql")
	run("a new node", exitDone, "GET /api/v2/device/nOLDCNTRL true, DELETE /api/v2/device/nOLDCNTRL true", "repair: the node old (nOLDCNTRL) was removed", "repair", "sql", "--tailnet", "new")
	run("another repair", exitDone, "", "", "repair", "sql", "--tailnet", "same")
	status = http.StatusNotFound
	run("gone", exitDone, "GET /api/v2/device/n5SUKe8CNTRL true", "was not in its tailnet any more", remove...)
	status = http.StatusUnauthorized
	run("refused", exitFailed, "GET /api/v2/device/n5SUKe8CNTRL true", "`sov secrets set NAME tailscale-api`", remove...)
	p.Shell("rm /data/sovereign/vms/sql/node.json")
	run("no node", exitDone, "", "", remove...)
	if heard := p.Shell("cat /data/heard"); strings.Contains(heard, "c4n4ry") || !strings.Contains(heard, "--what tailnet-new") {
		t.Errorf("the phone hears %s", heard)
	}
}
