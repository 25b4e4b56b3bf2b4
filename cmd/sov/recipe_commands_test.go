package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestRecipeCommands creates a recipe and one that extends it, and runs `sov recipe` on them.
func TestRecipeCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	run := func(want int, args ...string) string {
		t.Helper()
		out, said, status := cli(t, append([]string{"recipe"}, args...)...)
		if status != want {
			t.Fatalf("sov recipe %s: status %d, says %s", strings.Join(args, " "), status, said)
		}
		return out + said
	}
	run(exitDone, "new", "shop")
	text, err := os.ReadFile("shop.yaml")
	if err != nil || !strings.Contains(string(text), "name: shop\n") || !strings.Contains(string(text), "  hostname: sovereign-shop\n") || !strings.Contains(string(text), "# Virtual names") {
		t.Errorf("%v:\n%s", err, text)
	}
	if out := run(exitFailed, "new", "shop"); !strings.Contains(out, "exists") {
		t.Errorf("a second one: %s", out)
	}
	if out := run(exitDone, "show", "./shop.yaml"); out != string(text) {
		t.Errorf("a recipe of one file is shown as\n%s", out)
	}
	web := "extends: shop.yaml\nname: web\nfiles: [{path: /etc/x, source: x}]\nprofiles:\n  dev: {vm: {cpus: 1}}\n  bad: {vm: {cpus: 99}}\n"
	if err := os.WriteFile("web.yaml", []byte(web), 0o600); err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Name string
		VM   struct {
			CPUs   int
			Memory string
		}
	}
	if err := json.Unmarshal([]byte(run(exitDone, "show", "web.yaml", "--json", "--profile", "dev", "--set", "vm.memory=3GiB")), &shown); err != nil || shown.Name != "web" || shown.VM.CPUs != 1 || shown.VM.Memory != "3GiB" {
		t.Errorf("%+v, %v", shown, err)
	}
	out := run(exitFailed, "check", "web.yaml")
	for _, want := range []string{"web.yaml:6:20: vm.cpus: 99", "web.yaml: files[0].source: "} {
		if !strings.Contains(out, want) {
			t.Errorf("check says no %q: %s", want, out)
		}
	}
	if err := os.WriteFile("x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(exitDone, "check", "web.yaml", "--profile", "dev"); !strings.Contains(out, "is a valid recipe for the machine web") {
		t.Error(out)
	}
	if out, _, _ := cli(t, "__complete", "build", "web.yaml", "--profile", ""); !strings.HasPrefix(out, "bad\ndev\n") {
		t.Errorf("--profile completes to %s", out)
	}
	if !json.Valid([]byte(run(exitDone, "schema"))) {
		t.Error("the schema is not JSON")
	}
}
