package phonetest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A Home is a phone with adb for light machines of the group in examples/home.yaml.
type Home struct {
	*Handset
	Server *androidtest.ADBServer
	ADB    *androidtest.ADB
}

// NewHome returns a phone without machines, connected to an adb server.
func NewHome(t testing.TB) *Home {
	t.Helper()
	h := &Home{Handset: NewLightOn(t, androidtest.Options{}, vmspec.Scoped, lightguest.Script{}, "{}"), Server: androidtest.NewADBServer(t)}
	h.ADB = h.ServeADB(androidtest.ADBOptions{})
	h.Server.Connect(h.ADB)
	if err := os.RemoveAll(h.File(h.VM.Dir())); err != nil {
		t.Fatal(err)
	}
	return h
}

// GroupFile copies the group's file to a folder and returns its path.
func (h *Home) GroupFile(dir string) string {
	h.T.Helper()
	path := filepath.Join(dir, "home.yaml")
	text, err := os.ReadFile(filepath.Join(sovtest.Root(), "examples", "home.yaml"))
	if err = errors.Join(err, os.WriteFile(path, text, 0o644)); err != nil {
		h.T.Fatal(err)
	}
	return path
}

// Add installs a machine of a group, with a service that has data to back up.
func (h *Home) Add(name, group string, after ...string) {
	h.T.Helper()
	h.InstallLight(name, vmspec.Scoped, lightguest.Script{Ready: 300 * time.Millisecond, Data: map[string]string{name + "-service": name}}, Joins(group, after...))
}

// Joins returns a function that adds a machine to a group, without addresses, to start after other
// machines.
func Joins(group string, after ...string) func(*vmspec.Network) {
	return func(n *vmspec.Network) { n.Group, n.AddressUnset, n.After = group, true, after }
}

// StatusOf returns a machine's status from sov-runner.
func (h *Home) StatusOf(name string) *health.Machine {
	h.T.Helper()
	return Health(h.T, h.Do("status", name, "--json").Stdout)
}
