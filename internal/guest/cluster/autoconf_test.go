//go:build linux

package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// A life is a data directory and the starts of its server.
type life struct {
	*testing.T
	Settings
	said strings.Builder
}

func newLife(t *testing.T, conf string) *life {
	dir := t.TempDir()
	l := &life{T: t, Settings: Settings{Data: dir, Starts: filepath.Join(dir, "starts")}}
	l.set(conf)
	return l
}

func (l *life) set(conf string) {
	must(l.T, os.WriteFile(l.path(autoConf), []byte("# Do not edit\n"+conf), 0o600))
}

func (l *life) starts(n int) {
	l.Helper()
	for range n {
		must(l.T, l.beforeStart(&l.said))
	}
}

func (l *life) ready() {
	l.Helper()
	l.starts(1)
	must(l.T, l.Settled(&l.said))
}

// want checks the server's settings and the status.
func (l *life) want(conf string, aside ...guestapi.SettingsAside) {
	l.Helper()
	text, err := os.ReadFile(l.path(autoConf))
	if err != nil && conf != "" || strings.TrimPrefix(string(text), "# Do not edit\n") != conf {
		l.Errorf("the server gets %q, want %q", text, conf)
	}
	got, err := l.Aside()
	if diff := cmp.Diff(aside, got); err != nil || diff != "" {
		l.Errorf("aside (-want +got): %v\n%s", err, diff)
	}
}

func (l *life) aside(n string, settings ...string) guestapi.SettingsAside {
	return guestapi.SettingsAside{File: l.path(asideConf + n), Settings: settings}
}

// TestSettings lets servers fail, and checks the settings of their next start.
func TestSettings(t *testing.T) {
	const good, bad = "work_mem = '5MB'\n", "work_mem = '5MB'\nshared_buffers = '8GB'\nprimary_conninfo = 'password=c4n4ry'\n"
	t.Run("the changed ones are the reason", func(t *testing.T) {
		l := newLife(t, good)
		l.ready()
		l.set(bad)
		l.starts(3)
		l.want(bad)
		l.starts(1)
		l.want(good, l.aside("1", "primary_conninfo", "shared_buffers"))
		must(t, l.Settled(&l.said))
		l.want(good, l.aside("1", "primary_conninfo", "shared_buffers"))
		l.set(good + "shared_buffers = '8GB'\n") // now the value is valid
		l.want(good+"shared_buffers = '8GB'\n", l.aside("1", "primary_conninfo"))
		l.ready()
		if got, err := l.Ignored([]string{"fsync", "shared_buffers", "work_mem"}); err != nil || strings.Join(got, " ") != "shared_buffers work_mem" {
			t.Errorf("without effect: %q, %v", got, err)
		}
		if said := l.said.String(); strings.Contains(said, "c4n4ry") || strings.Count(said, "WARNING") != 2 {
			t.Errorf("it says %s", said)
		}
		l.set(bad)
		l.starts(4) // the next failure
		l.want(good+"shared_buffers = '8GB'\n", l.aside("1", "primary_conninfo"), l.aside("2", "primary_conninfo"))
		if removed, err := l.Forget(); err != nil || len(removed) != 2 {
			t.Errorf("removed %q, %v", removed, err)
		}
		l.want(good + "shared_buffers = '8GB'\n")
	})
	t.Run("they are not the reason", func(t *testing.T) {
		l := newLife(t, good)
		l.ready()
		l.set(bad)
		for range 3 {
			l.starts(4)
			l.want(good, l.aside("1", "primary_conninfo", "shared_buffers"))
			l.starts(1)
			l.want(bad)
			must(t, os.Remove(l.Starts)) // another boot
		}
	})
	t.Run("before there was a copy", func(t *testing.T) {
		l := newLife(t, bad)
		l.starts(4)
		if text, err := os.ReadFile(l.path(autoConf)); err != nil || len(text) != 0 {
			t.Errorf("the server gets %q, %v", text, err)
		}
	})
	t.Run("nothing has changed", func(t *testing.T) {
		l := newLife(t, good)
		l.ready()
		l.starts(9)
		l.want(good)
	})
	t.Run("no file", func(t *testing.T) {
		l := newLife(t, good)
		l.ready()
		must(t, os.Remove(l.path(autoConf)))
		l.starts(9)
		l.want("")
	})
	t.Run("a file of zeros", func(t *testing.T) {
		l := newLife(t, "")
		l.ready()
		l.set(strings.Repeat("\x00", 100))
		l.starts(4)
		l.want("", l.aside("1"))
	})
	t.Run("asked for", func(t *testing.T) {
		l := newLife(t, good)
		l.ready()
		l.set(bad)
		must(t, l.Ask())
		l.ready()
		l.want(good, l.aside("1", "primary_conninfo", "shared_buffers"))
		must(t, l.Ask()) // the second request: without all of them
		l.ready()
		if text, err := os.ReadFile(l.path(autoConf)); err != nil || len(text) != 0 {
			t.Errorf("the server gets %q, %v", text, err)
		}
	})
	t.Run("what is not a file", func(t *testing.T) {
		l := newLife(t, good)
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		must(t, os.WriteFile(elsewhere, []byte("root's"), 0o600))
		must(t, os.Remove(l.path(autoConf)))
		must(t, os.Symlink(elsewhere, l.path(autoConf)))
		l.starts(3)
		if err := l.beforeStart(&l.said); err == nil {
			t.Error("a link is followed")
		}
		if err := l.Settled(&l.said); err == nil {
			t.Error("a link is copied")
		}
		if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "root's" {
			t.Errorf("%q, %v", text, err)
		}
	})
}
