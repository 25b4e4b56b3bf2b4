package guestspec

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const minimal = `{"format": 1, "image": {"name": "sql", "version": "1"}, "hostname": "sovereign-sql", "data": {}, "network": {}, "endpoint": {}}`

func TestLoadMergesServicesAndDefaults(t *testing.T) {
	postgres, err := os.ReadFile("testdata/postgres.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(fstest.MapFS{
		"etc/sov/guest.json":             {Data: []byte(minimal)},
		"etc/sov/services/postgres.json": {Data: postgres},
		"etc/sov/services/a.json":        {Data: []byte(`{"name":"a","command":["/bin/a"],"after":["postgres"],"ready":{},"restart":{},"stop":{}}`)},
		"etc/sov/services/README":        {Data: []byte("not a service")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{c.Services[0].Name, c.Services[1].Name}; !cmp.Equal(got, []string{"a", "postgres"}) {
		t.Errorf("services %q, want them in the order of their files' names", got)
	}
	pg := c.Services[1]
	if pg.Prepare[0].User != "root" || pg.PostReady[0].User != "postgres" {
		t.Errorf("prepare runs as %q and post_ready as %q, want root and postgres", pg.Prepare[0].User, pg.PostReady[0].User)
	}
	if c.Path != DefaultPath || c.Data.Path != "/data" || c.Endpoint.Port != 8377 || c.Network.Driver != "virtio_net" || c.OnFatal != PowerOff {
		t.Errorf("defaults are not filled in: %+v", c)
	}
	if got := pg.Restart; got != (Restart{Always, Duration(500 * time.Millisecond), Duration(30 * time.Second), Duration(time.Minute), 5}) {
		t.Errorf("restart = %+v", got)
	}
}

func TestConfigSurvivesJSON(t *testing.T) {
	var s Service
	b, err := os.ReadFile("testdata/postgres.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	want := Config{Format: Format, Image: Image{"sql", "1"}, Hostname: "h", Services: []Service{s}}
	want.setDefaults()
	out, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(fstest.MapFS{"etc/sov/guest.json": {Data: out}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestValidateDoesNotChangeReceiver(t *testing.T) {
	c := Config{Format: Format, Hostname: "h", Services: []Service{{Name: "a", Command: []string{"/a"}, Prepare: []Step{{Command: []string{"/b"}}}}}}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Services[0].User != "" || c.Services[0].Prepare[0].User != "" {
		t.Errorf("Validate filled in defaults: %+v", c.Services[0])
	}
}

func TestLoadRefuses(t *testing.T) {
	service := func(fields string) string {
		return strings.Replace(minimal, `"endpoint"`, `"services":[{"name":"a","command":["/a"],"ready":{},"restart":{},"stop":{}`+fields+`}],"endpoint"`, 1)
	}
	opening := func(fields string) string {
		return strings.Replace(minimal, `"endpoint"`, `"firewall":{"open":[{`+fields+`}]},"endpoint"`, 1)
	}
	tests := []struct{ name, config, want string }{
		{"unknown field", strings.Replace(minimal, "hostname", "hostnme", 1), `unknown field "hostnme"`},
		{"trailing", minimal + "{}", "after the value"},
		{"truncated", minimal[:20], "unexpected EOF"},
		{"format", strings.Replace(minimal, `"format": 1`, `"format": 2`, 1), "reads format 1"},
		{"hostname", strings.Replace(minimal, "sovereign-sql", "a.b", 1), "not a host name"},
		{"relative command", service(`,"command":["a"]`), "not a clean absolute path"},
		{"no command", service(`,"command":[]`), "is empty"},
		{"NUL", service(`,"command":["/a","\u0000"]`), "NUL"},
		{"name", service(`,"name":"A b"`), "lower-case"},
		{"reserved name", service(`,"name":"init"`), "reserved"},
		{"mode", service(`,"directories":[{"path":"/x","mode":"755"}]`), "four octal digits"},
		{"tmpfs root", service(`,"tmpfs":[{"path":"/"}]`), "not a clean absolute path"},
		{"tmpfs size", service(`,"tmpfs":[{"path":"/x","size":"10%,exec"}]`), "neither bytes nor"},
		{"two readinesses", service(`,"ready":{"tcp":"127.0.0.1:1","unix":"/x"}`), "more than one"},
		{"port", service(`,"ready":{"tcp":"127.0.0.1:http"}`), "not HOST:PORT"},
		{"duration", service(`,"ready":{"timeout":"5"}`), "missing unit"},
		{"signal", service(`,"stop":{"signal":"KILL"}`), "none of SIGTERM"},
		{"policy", service(`,"restart":{"policy":"sometimes"}`), "must be always"},
		{"negative backoff", service(`,"restart":{"backoff":"-1s"}`), "less than 1ms"},
		{"oom", service(`,"oom_score_adj":-1001`), "not in -1000..1000"},
		{"capability", service(`,"rights":{"capabilities":["CAP_CHOWN"]}`), "not a capability"},
		{"device", service(`,"rights":{"devices":["/dev/../etc/shadow"]}`), "not a path in /dev"},
		{"limit", service(`,"limits":{"memory":"half"}`), "neither bytes nor"},
		{"env", service(`,"env":{"A=B":""}`), "cannot be set"},
		{"secret", service(`,"post_ready":[{"command":["/x"],"secret":"../x"}]`), "not a secret's name"},
		{"optional secret", service(`,"post_ready":[{"command":["/x"],"secret_optional":true}]`), "there is no secret"},
		{"empty condition", service(`,"start_if":{}`), "names nothing"},
		{"condition's secret", service(`,"start_if":{"secret":"a/b"}`), "not a secret's name"},
		{"condition's file", service(`,"start_if":{"file":"data"}`), "not a clean absolute path"},
		{"protocol", opening(`"protocol":"sctp","port":1,"on":"link"`), "neither tcp nor udp"},
		{"port", opening(`"protocol":"tcp","on":"link"`), "is 0"},
		{"interface", opening(`"protocol":"tcp","port":1,"on":"eth0"`), "neither link nor tailnet"},
		{"prefix", opening(`"protocol":"tcp","port":1,"on":"link","from":["10.0.0.1"]`), "is not a prefix"},
		{"subnet of the tailnet", opening(`"protocol":"tcp","port":1,"on":"tailnet","from":["subnet"]`), "is not a prefix"},
		{"unknown after", service(`,"after":["b"]`), `no service "b"`},
		{"itself", service(`,"after":["a"]`), "circle"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(fstest.MapFS{"etc/sov/guest.json": {Data: []byte(tt.config)}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Load: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestLoadRefusesServiceDescribedTwice(t *testing.T) {
	one := []byte(`{"name":"a","command":["/a"],"ready":{},"restart":{},"stop":{}}`)
	_, err := Load(fstest.MapFS{
		"etc/sov/guest.json":      {Data: []byte(minimal)},
		"etc/sov/services/1.json": {Data: one},
		"etc/sov/services/2.json": {Data: one},
	})
	if err == nil || !strings.Contains(err.Error(), "described twice") {
		t.Errorf("Load: %v", err)
	}
}
