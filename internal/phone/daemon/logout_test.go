package daemon

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
)

// TestLogOut: a machine's node is logged out before its data are removed. If that fails, the reason
// is reported.
func TestLogOut(t *testing.T) {
	node := &guestapi.Tailnet{State: "Running", Hostname: "box", Addresses: []string{"100.64.0.1"}}
	for name, tt := range map[string]struct {
		down, key bool // the machine does not run; it has an auth key
		noted     bool // the node is recorded
		tailnet   *guestapi.Tailnet
		fault     string // of the repair
		old       bool   // the guest does not support repairs
		want      string
	}{
		"a node":                               {tailnet: node, want: "the node box is logged out"},
		"no Tailscale":                         {},
		"no key":                               {tailnet: &guestapi.Tailnet{State: guestapi.TailnetOff}},
		"no answer":                            {tailnet: node, fault: "it took longer", want: "it took longer; where the machine has a node, it stays on the tailnet"},
		"an older guest":                       {tailnet: node, old: true, want: "knows no repairs: push a newer one and restart; where the machine has a node"},
		"down":                                 {down: true},
		"down, with a node that is known":      {down: true, noted: true, want: "could not log out; its node box (nBOX) stays on the tailnet"},
		"no answer, with a node that is known": {tailnet: node, noted: true, fault: "it took longer", want: "it took longer; its node box (nBOX) stays"},
		"down, with a node":                    {down: true, key: true, want: "the machine did not run and could not log out; where the machine has a node"},
	} {
		t.Run(name, func(t *testing.T) {
			root := phonepath.Root(t.TempDir())
			vm, err := root.VM("sql")
			must(t, err)
			must(t, os.MkdirAll(vm.Run(), 0o700))
			if tt.noted {
				for range 2 {
					must(t, noteNode(vm, (&guestapi.Tailnet{ID: "nBOX", Hostname: "box"}).Node()))
				}
				must(t, noteNode(vm, (*guestapi.Tailnet)(nil).Node())) // a guest that reports no node
			}
			if tt.key {
				must(t, os.MkdirAll(vm.Secrets(), 0o700))
				must(t, os.WriteFile(filepath.Join(vm.Secrets(), "tailscale"), []byte("tskey-x"), 0o600))
			}
			mux := http.NewServeMux()
			mux.HandleFunc("GET "+guestapi.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
				json.NewEncoder(w).Encode(guestapi.Status{Tailnet: tt.tailnet})
			})
			asked := 0
			if !tt.old {
				mux.HandleFunc("POST "+guestapi.PathRepair, func(w http.ResponseWriter, r *http.Request) {
					if asked++; r.URL.Query().Get(guestapi.QueryRepair) != guestapi.RepairTailnetLogout {
						t.Errorf("the guest is asked for %s", r.URL)
					}
					json.NewEncoder(w).Encode(guestapi.Repair{Done: []string{}, Fault: tt.fault})
				})
			}
			guest := httptest.NewServer(mux)
			defer guest.Close()
			if !tt.down {
				state := runnerapi.State{Format: runnerapi.Format, Name: "sql", Phase: runnerapi.Ready}
				state.Network.Endpoint = netip.MustParseAddrPort(guest.Listener.Addr().String())
				must(t, writeFile(vm.State(), state))
				must(t, os.WriteFile(vm.Token(), []byte("token"), 0o600))
			}
			if got := logOut(t.Context(), root, vm); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if wants := tt.tailnet == node && !tt.old; (asked == 1) != wants {
				t.Errorf("the guest is asked %d times to log out", asked)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
