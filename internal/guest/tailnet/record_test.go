package tailnet

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

const (
	joinedState = `{"_machinekey":"cHJpdmtleTo=","profile-1234":"e30="}`
	freshState  = `{"_machinekey":"cHJpdmtleTo="}`
)

// TestPrepare checks states that power cuts and users leave.
func TestPrepare(t *testing.T) {
	used := record{Keys: []string{digest("old")}, Host: "here"}
	for name, tt := range map[string]struct {
		state, absent string // absent: the state does not exist
		record        record
		host, key     string
		lost          string // part of the message; empty: nothing is lost
		mayJoin       map[string]bool
	}{
		"first start":                  {absent: "yes", host: "here", key: "old", mayJoin: map[string]bool{"old": true}},
		"whole":                        {state: joinedState, record: used, host: "here", key: "old", mayJoin: map[string]bool{"old": true}},
		"whole, before there was this": {state: joinedState, host: "here", key: "old"},
		"not joined yet":               {state: freshState, record: record{Host: "there"}, host: "here"},
		"host unknown":                 {state: joinedState, record: used, key: "old"},
		"empty":                        {record: used, host: "here", key: "old", lost: "is empty", mayJoin: map[string]bool{"old": false, "new": true, "": false}},
		"zeros":                        {state: strings.Repeat("\x00", 4096), record: used, host: "here", key: "old", lost: "nothing but zeros", mayJoin: map[string]bool{"old": false, "new": true}},
		"half":                         {state: joinedState[:30], record: used, host: "here", key: "old", lost: "is torn: its 30 bytes", mayJoin: map[string]bool{"old": false}},
		"half, before there was this":  {state: joinedState[:30], host: "here", key: "old", lost: "is torn", mayJoin: map[string]bool{"old": false, "new": true}},
		"a list":                       {state: "[]", record: used, host: "here", key: "old", lost: "is torn"},
		"gone":                         {absent: "yes", record: used, host: "here", key: "old", lost: "has disappeared", mayJoin: map[string]bool{"old": false, "new": true}},
		"copied":                       {state: joinedState, record: used, host: "there", key: "old", lost: "another phone", mayJoin: map[string]bool{"old": false, "new": true}},
	} {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "tailscaled.state")
			if tt.absent == "" {
				must(t, os.WriteFile(state, []byte(tt.state), 0o600))
			}
			must(t, tt.record.store(state))
			var said strings.Builder
			must(t, Prepare(state, tt.host, tt.key, &said))
			r, err := loadRecord(state)
			must(t, err)
			if tt.host != "" && r.Host != tt.host || (r.Lost == "") != (tt.lost == "") || !strings.Contains(r.Lost, tt.lost) {
				t.Errorf("%+v", r)
			}
			if (said.Len() > 0) != (tt.lost != "") || !strings.Contains(said.String(), r.Lost) {
				t.Errorf("it says %q", said.String())
			}
			if tt.lost != "" && tt.absent == "" {
				if kept, err := os.ReadFile(r.Kept); err != nil || string(kept) != tt.state {
					t.Errorf("kept: %q, %v", kept, err)
				}
				if _, err := os.Stat(state); err == nil {
					t.Error("the state is still in use")
				}
			}
			for key, may := range tt.mayJoin {
				if r.mayJoin(key) != may {
					t.Errorf("by the key %q it may join: %t", key, !may)
				}
			}
			// The next start, with tailscaled's new empty state, reports the same.
			if tt.lost == "" {
				return
			}
			must(t, os.WriteFile(state, []byte(freshState), 0o600))
			must(t, Prepare(state, tt.host, tt.key, io.Discard))
			again, err := loadRecord(state)
			must(t, err)
			if diff := cmp.Diff(r, again); diff != "" {
				t.Errorf("at the next start (-before +after)\n%s", diff)
			}
			must(t, AllowNew(state))
			if again, err = loadRecord(state); err != nil || !again.mayJoin("old") {
				t.Errorf("what was asked for is not done: %+v, %v", again, err)
			}
			if err := TakeOver(state); (err == nil) != r.Copied {
				t.Errorf("take over: %v", err)
			}
		})
	}
}

// TestNewKey verifies that a node that has to log in does so only with an unused key.
func TestNewKey(t *testing.T) {
	state := filepath.Join(t.TempDir(), "tailscaled.state")
	node := Node{Hostname: "old", AuthKey: "first", State: state}
	d := &daemon{status: `{"BackendState":"NeedsLogin"}`, prefs: somePrefs}
	c := d.start(t)
	up := func(status, key, want string) {
		t.Helper()
		d.status, node.AuthKey = status, key
		if did, err := c.Up(t.Context(), node); err != nil || did != want {
			t.Errorf("by %s: %q, %v, want %q", key, did, err, want)
		}
	}
	watch := func(status, key string, want bool) {
		t.Helper()
		d.status = status
		if again, _, err := c.Watch(t.Context(), state, key); err != nil || again != want {
			t.Errorf("by %s: again %t, %v", key, again, err)
		}
	}
	const running, login = `{"BackendState":"Running","HaveNodeKey":true}`, `{"BackendState":"NeedsLogin","HaveNodeKey":true}`
	up(`{"BackendState":"NeedsLogin"}`, "first", Joining)
	watch(`{"BackendState":"NeedsLogin"}`, "first", false)
	watch(running, "first", false)
	watch(login, "first", false)
	up(login, "first", "")
	watch(login, "", false)
	up(running, "second", "")
	watch(running, "second", false)
	watch(login, "second", true) // the key existed before and was not used
	up(login, "second", Rejoining)
	watch(running, "second", false)
	watch(login, "second", false)
	must(t, AllowNew(state))
	watch(login, "second", true)
	text, err := os.ReadFile(recordOf(state))
	must(t, err)
	if strings.Contains(string(text), "first") || strings.Contains(string(text), "second") {
		t.Errorf("the record has a key: %s", text)
	}
}

// TestReportOfIdentity verifies that a lost state and a hostname with a numeric suffix are
// reported.
func TestReportOfIdentity(t *testing.T) {
	state := filepath.Join(t.TempDir(), "tailscaled.state")
	lost := record{Lost: "tailscaled's state x is empty", Kept: "x.kept-1", ID: "nBOX", Name: "box"}
	must(t, lost.store(state))
	ready := guestapi.Service{State: guestapi.StateReady}
	d := &daemon{status: `{"BackendState":"NeedsLogin"}`}
	socket := d.start(t).socket
	r := Report(t.Context(), socket, state, ready, true)
	for _, part := range []string{"x is empty; it is kept as x.kept-1", "does not become another node by itself", "`sov repair NAME --tailnet new`"} {
		if !strings.Contains(r.Fault, part) {
			t.Errorf("%q does not say %q", r.Fault, part)
		}
	}
	if r.ID != "" || r.Old == nil || *r.Old != (guestapi.TailnetNode{ID: "nBOX", Name: "box"}) {
		t.Errorf("%+v, %+v", r, r.Old)
	}
	lost.Copied = true // another machine may be that node
	must(t, lost.store(state))
	if r := Report(t.Context(), socket, state, ready, true); r.Old != nil {
		t.Errorf("the node of another machine is told as an old one: %+v", r.Old)
	}
	// The node is recorded once it is on its tailnet.
	d.status = `{"BackendState":"Running","HaveNodeKey":true,"Self":{"ID":"nNEW","HostName":"Box","DNSName":"box.x","Online":true}}`
	client := NewClient(socket)
	for range 2 {
		if _, settled, err := client.Watch(t.Context(), state, ""); err != nil || !settled {
			t.Errorf("%t, %v", settled, err)
		}
	}
	if now, err := loadRecord(state); err != nil || now.ID != "nNEW" || now.Name != "box" {
		t.Errorf("%+v, %v", now, err)
	}
	if r := Report(t.Context(), socket, state, ready, true); r.ID != "nNEW" {
		t.Errorf("%+v", r)
	}
	if r := Report(t.Context(), socket, "", ready, true); r.ID != "" {
		t.Errorf("an ephemeral node is told as one that stays: %+v", r)
	}
	for dns, warns := range map[string]bool{"box.": false, "box-1.tail.example.": true, "box-22.x": true, "other.x": false, "box-x.y": false} {
		d.status = `{"BackendState":"Running","HaveNodeKey":true,"Self":{"HostName":"Box","DNSName":"` + dns + `","Online":true}}`
		if r := Report(t.Context(), socket, state, ready, true); (r.Warning != "") != warns || r.Fault != "" {
			t.Errorf("%s: %+v", dns, r)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBecomeNew turns a machine, whose state a twin has, into a new node.
func TestBecomeNew(t *testing.T) {
	state := filepath.Join(t.TempDir(), "tailscaled.state")
	must(t, os.WriteFile(state, []byte(joinedState), 0o600))
	must(t, (&record{Keys: []string{digest("old")}, Host: "here"}).store(state))
	kept, err := BecomeNew(state)
	must(t, err)
	if text, err := os.ReadFile(kept); err != nil || string(text) != joinedState {
		t.Errorf("%s holds %q, %v", kept, text, err)
	}
	var said strings.Builder
	must(t, Prepare(state, "here", "old", &said))
	r, err := loadRecord(state)
	must(t, err)
	if _, err := os.Stat(state); err == nil || said.Len() > 0 || !r.mayJoin("old") {
		t.Errorf("it does not start again with its key: %+v, %q", r, &said)
	}
	if err := TakeOver(state); err == nil {
		t.Error("the state is given back to a machine that is to be another node")
	}
}
