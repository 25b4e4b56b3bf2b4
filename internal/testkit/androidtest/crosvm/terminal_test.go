package crosvm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// TestTerminals checks that serial port 1 is at crosvm's standard input and output if no port is
// the console, and that files are appended to.
func TestTerminals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("before "), 0o644); err != nil {
		t.Fatal(err)
	}
	console := crosvmcli.Serial{Type: "file", Hardware: "virtio-console", Num: 1, Path: path, Console: true}
	for name, tt := range map[string]struct {
		serials []crosvmcli.Serial
		stdio   bool // the last port is at standard input and output
		ports   int
	}{
		"none":          {nil, true, 1},
		"a console":     {[]crosvmcli.Serial{console}, false, 1},
		"no console":    {[]crosvmcli.Serial{{Type: "sink", Hardware: "virtio-console", Num: 1}}, true, 2},
		"serial 1 sink": {[]crosvmcli.Serial{{Type: "sink", Hardware: "serial", Num: 1}}, false, 1},
	} {
		r := &running{Machine: &crosvmcli.Machine{Serials: tt.serials}}
		ports, err := r.terminals()
		if err != nil {
			t.Fatal(err)
		}
		last := ports[len(ports)-1]
		if len(ports) != tt.ports || (last.output == os.Stdout && last.input == os.Stdin) != tt.stdio {
			t.Errorf("%s: %+v", name, ports)
		}
		if name == "a console" {
			ports.console().Write([]byte("after"))
		}
		ports.Close()
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "before after" {
		t.Errorf("%q, %v", text, err)
	}
	r := &running{Machine: &crosvmcli.Machine{Serials: []crosvmcli.Serial{{Type: "file", Hardware: "serial", Num: 1}}}}
	if _, err := r.terminals(); err == nil {
		t.Error("a file without a path is taken")
	}
}
