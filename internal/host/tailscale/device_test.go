package tailscale

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

const token = "tskey-api-c4n4ry"

// TestRemove removes nodes from a server that behaves as https://tailscale.com/api documents.
func TestRemove(t *testing.T) {
	now := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	const day = "2026-11-26T10:00:00Z"
	for name, tt := range map[string]struct {
		device  string // JSON; empty: the device does not exist
		off     int    // number of reads after which it is disconnected
		status  int    // of a deletion; 0: 200
		message string
		token   string
		deleted bool
		found   bool
		fault   string
	}{
		"off":                          {device: `{"nodeId":"n5SUKe8CNTRL","connectedToControl":false,"lastSeen":"2026-11-27T09:59:59Z"}`, deleted: true, found: true},
		"off, as it was told before":   {device: `{"lastSeen":"` + day + `"}`, deleted: true, found: true},
		"about to go off":              {device: `{"connectedToControl":true}`, off: 3, deleted: true, found: true},
		"another machine":              {device: `{"connectedToControl":true,"lastSeen":"` + day + `"}`, fault: "another machine may be that node"},
		"another machine, told before": {device: `{"lastSeen":"2026-11-27T09:55:00Z"}`, fault: "another machine may be that node"},
		"not told":                     {device: `{}`, fault: "another machine may be that node"},
		"gone":                         {},
		"gone meanwhile":               {device: `{"connectedToControl":false}`, status: 404, deleted: true},
		"another tailnet":              {device: `{"connectedToControl":false}`, status: 501, message: "cannot delete devices outside of your tailnet", deleted: true, fault: `501 Not Implemented ("cannot delete devices outside of your tailnet")`},
		"a token that may not":         {device: `{"connectedToControl":false}`, status: 403, deleted: true, fault: "the scope devices:core"},
		"a token that has expired":     {device: `{"connectedToControl":false}`, token: "tskey-api-old", fault: "`sov secrets set NAME tailscale-api`"},
		"no JSON":                      {device: "hello", fault: "invalid character"},
		"leads elsewhere":              {device: "redirect", fault: "302 Found"},
	} {
		t.Run(name, func(t *testing.T) {
			looked, deleted := 0, false
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := func(status int, message string) {
					w.WriteHeader(status)
					json.NewEncoder(w).Encode(map[string]string{"message": message})
				}
				if user, password, ok := r.BasicAuth(); !ok || user != token || password != "" {
					answer(http.StatusUnauthorized, "API token invalid")
					return
				}
				if r.URL.Path != "/api/v2/device/n5SUKe8CNTRL" || tt.device == "" {
					answer(http.StatusNotFound, "not found")
					return
				}
				switch {
				case tt.device == "redirect":
					http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
				case r.Method == http.MethodGet:
					looked++
					if tt.off > 0 && looked > tt.off {
						fmt.Fprint(w, `{"connectedToControl":false}`)
						return
					}
					fmt.Fprint(w, tt.device)
				case r.Method == http.MethodDelete:
					deleted = true
					if tt.status != 0 {
						answer(tt.status, tt.message)
					}
				default:
					answer(http.StatusMethodNotAllowed, r.Method)
				}
			}))
			defer server.Close()
			use := token
			if tt.token != "" {
				use = tt.token
			}
			api := New(server.URL+"/", use+"\n")
			api.Now, api.Pause = func() time.Time { return now }, time.Millisecond
			found, err := api.Remove(t.Context(), guestapi.TailnetNode{ID: "n5SUKe8CNTRL", Name: "sovereign-sql"})
			if found != tt.found || deleted != tt.deleted || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("found %t, deleted %t, %v", found, deleted, err)
			}
			if err != nil && (strings.Contains(err.Error(), "tskey") || !strings.Contains(err.Error(), "sovereign-sql (n5SUKe8CNTRL)")) {
				t.Errorf("it says %v", err)
			}
			if online := new(OnlineError); errors.As(err, &online) != strings.Contains(tt.fault, "another machine") {
				t.Errorf("%T", err)
			}
		})
	}
}

// TestPlainHTTP: the token is not sent unencrypted to another computer.
func TestPlainHTTP(t *testing.T) {
	for _, address := range []string{"http://api.example.com", "http://192.0.2.1:8080", "api.example.com"} {
		_, err := New(address, token).Remove(t.Context(), guestapi.TailnetNode{ID: "n5SUKe8CNTRL"})
		if err == nil || !strings.Contains(err.Error(), "must begin with https://") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
