package guestinit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestSecretsAndLife checks that a recipe's settings for a service's secrets and life reach the
// init.
func TestSecretsAndLife(t *testing.T) {
	r := parse(t, `
secrets: [{name: key}]
vm: {sysctl: {net.core.somaxconn: 4096}}
services:
  - name: web
    command: [/bin/web]
    user: nobody
    environment: {MODE: quick, KEY: {secret: key}}
    secrets: [{name: key}, {name: key, file: /run/keys/key, owner: root, mode: "0440"}]
    prepare: [[/bin/a], {command: [/bin/b], user: root}]
    post_ready: [[/bin/c]]
    ready: {http: "http://127.0.0.1/", interval: 1s}
    alive: {tcp: "127.0.0.1:80"}
    log: {size: 4MiB}
  - {name: job, command: [/bin/job], schedule: 6h}
`)
	s := &stage{Options{Recipe: r}}
	services := s.services()
	got := guestspec.Service{}
	got.Env, got.SecretEnv, got.Secrets, got.Prepare, got.PostReady = services[0].Env, services[0].SecretEnv, services[0].Secrets, services[0].Prepare, services[0].PostReady
	got.Alive, got.LogSize, got.Ready.HTTP, got.Ready.Interval, got.Schedule = services[0].Alive, services[0].LogSize, services[0].Ready.HTTP, services[0].Ready.Interval, services[1].Schedule
	want := guestspec.Service{
		Env: map[string]string{"MODE": "quick"}, SecretEnv: map[string]string{"KEY": "key"},
		Secrets: []guestspec.SecretFile{{Secret: "key", Path: "/run/secrets/web/key", Mode: "0400", User: "nobody"}, {Secret: "key", Path: "/run/keys/key", Mode: "0440", User: "root"}},
		Prepare: []guestspec.Step{{Command: []string{"/bin/a"}}, {Command: []string{"/bin/b"}, User: "root"}}, PostReady: []guestspec.Step{{Command: []string{"/bin/c"}}},
		Ready:   guestspec.Ready{HTTP: "http://127.0.0.1/", Interval: 1e9},
		Alive:   &guestspec.Alive{Ready: guestspec.Ready{TCP: "127.0.0.1:80", Interval: 30e9, Timeout: 5e9}, Failures: 3},
		LogSize: 4 << 20, Schedule: "6h",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"net.core.somaxconn": "4096"}, s.config().Sysctls); diff != "" {
		t.Error(diff)
	}
	if err := apply(t, below(t, alpine), r); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"prepare: [{command: [/bin/a], user: stranger}]", "post_ready: [{command: [/bin/a], user: stranger}]", "secrets: [{name: key, owner: stranger}]"} {
		r := parse(t, "secrets: [{name: key}]\nservices:\n  - name: a\n    command: [/bin/a]\n    "+text+"\n")
		if err := apply(t, below(t, alpine), r); err == nil || !strings.Contains(err.Error(), "there is no user stranger") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
