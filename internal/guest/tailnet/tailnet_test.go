package tailnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A daemon answers as tailscaled does and records the requests.
type daemon struct {
	status, prefs string
	whois         string   // of itself
	asked         []string // METHOD PATH BODY
}

// start starts the daemon on a socket and returns a client of it.
func (d *daemon) start(t *testing.T) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(d.answer)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return NewClient(socket)
}

func (d *daemon) answer(w http.ResponseWriter, r *http.Request) {
	if r.Host != "local-tailscaled.sock" {
		http.Error(w, "not for you", http.StatusForbidden)
		return
	}
	switch {
	case r.Method == "GET" && r.URL.Path == "/localapi/v0/status":
		io.WriteString(w, d.status)
		return
	case r.Method == "GET" && r.URL.Path == "/localapi/v0/whois" && r.URL.Query().Get("addr") == "100.64.0.1":
		io.WriteString(w, d.whois)
		return
	case r.Method == "GET" && r.URL.Path == "/localapi/v0/prefs":
		io.WriteString(w, d.prefs)
		return
	}
	body, _ := io.ReadAll(r.Body)
	d.asked = append(d.asked, fmt.Sprintf("%s %s %s", r.Method, strings.TrimPrefix(r.URL.Path, "/localapi/v0/"), body))
	if r.Method == "PATCH" {
		io.WriteString(w, "{}")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

const somePrefs = `{"ControlURL":"","Hostname":"old","CorpDNS":true,"NetfilterMode":2,"AdvertiseTags":null,"Config":null}`

func TestUp(t *testing.T) {
	node := Node{Hostname: "box", LoginServer: "https://control.example", Tags: []string{"tag:sql"}, AuthKey: "tskey-x"}
	keyless := node
	keyless.AuthKey = ""
	same := node
	same.Hostname = "old"
	for _, tt := range []struct {
		name, status string
		node         Node
		did          string
		asked        []string
	}{
		{"without a key", `{"BackendState":"NeedsLogin"}`, keyless, noKey, nil},
		{"joined", `{"BackendState":"Running","HaveNodeKey":true}`, same, "", nil},
		{"joined under another name", `{"BackendState":"Running","HaveNodeKey":true}`, node, renamed,
			[]string{`PATCH prefs {"Hostname":"box","HostnameSet":true}`}},
		{"not joined yet", `{"BackendState":"NeedsLogin"}`, node, Joining, []string{
			`POST start {"AuthKey":"tskey-x","UpdatePrefs":{"AdvertiseTags":["tag:sql"],"ControlURL":"https://control.example","CorpDNS":false,` +
				`"Hostname":"box","LoggedOut":false,"NetfilterMode":2,"RouteAll":false,"WantRunning":true}}`,
			`POST login-interactive `,
		}},
	} {
		d := &daemon{status: tt.status, prefs: somePrefs}
		did, err := d.start(t).Up(t.Context(), tt.node)
		if err != nil || did != tt.did {
			t.Errorf("%s: %q, %v", tt.name, did, err)
		}
		if diff := cmp.Diff(tt.asked, d.asked); diff != "" {
			t.Errorf("%s: asked (-want +got)\n%s", tt.name, diff)
		}
	}
}

func TestStatus(t *testing.T) {
	d := &daemon{status: `{"BackendState":"Running","HaveNodeKey":true,"Health":["slow"],"Self":{"HostName":"box","DNSName":"box-1.tail.example.",
		"TailscaleIPs":["100.64.0.1","fd7a:115c:a1e0::1"],"Online":true,"KeyExpiry":"2027-01-02T03:04:05Z"}}`}
	s, err := d.start(t).status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.State != stateRunning || s.Self.name() != "box-1" || len(s.Self.TailscaleIPs) != 2 || s.Self.KeyExpiry.Year() != 2027 {
		t.Errorf("got %+v %+v", s, s.Self)
	}
	if name := (&selfStatus{HostName: "box"}).name(); name != "box" {
		t.Errorf("a node that the tailnet has not named is %q", name)
	}
}

func TestFailures(t *testing.T) {
	if _, err := NewClient(filepath.Join(t.TempDir(), "s")).status(t.Context()); err == nil {
		t.Error("an answer without a daemon")
	}
	for name, status := range map[string]string{"no JSON": "hello", "too much": `{"BackendState":"` + strings.Repeat("x", maxAnswer) + `"}`} {
		d := &daemon{status: status}
		if _, err := d.start(t).status(t.Context()); err == nil {
			t.Errorf("an answer that is %s passes", name)
		}
	}
	// A daemon that accepts a connection and never answers.
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := NewClient(socket).status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a daemon that says nothing: %v", err)
	}
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"BackendState":"Running","Self":{"TailscaleIPs":["100.64.0.1"],"KeyExpiry":"2027-01-02T03:04:05Z"}}`))
	f.Add([]byte(`{"Self":{}}`))
	f.Fuzz(func(_ *testing.T, answer []byte) {
		var s daemonStatus
		if json.Unmarshal(answer, &s) == nil && s.Self != nil {
			_ = s.Self.name()
		}
	})
}
