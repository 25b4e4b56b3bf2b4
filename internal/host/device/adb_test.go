package device_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
)

func TestMain(m *testing.M) {
	status := m.Run()
	androidtest.RemovePrograms()
	os.Exit(status)
}

// attach starts a phone and an adb server that is connected to it.
func attach(t *testing.T, o androidtest.ADBOptions) (*androidtest.ADB, *androidtest.ADBServer, device.Phone) {
	t.Helper()
	a := androidtest.New(t, androidtest.Options{}).ServeADB(o)
	s := androidtest.NewADBServer(t)
	s.Connect(a)
	return a, s, device.ADB(s.Program(), a.Serial())
}

func TestADB(t *testing.T) {
	a, s, p := attach(t, androidtest.ADBOptions{})
	random := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{2}).Read(random)

	t.Run("bytes and status", func(t *testing.T) {
		var out, said bytes.Buffer
		err := p.Run(t.Context(), device.Command{Args: []string{"sh", "-c", `id -u >&2; cat; exit 9`}, Stdin: bytes.NewReader(random), Stdout: &out, Stderr: &said})
		var exit *device.ExitError
		if !errors.As(err, &exit) || exit.Status != 9 {
			t.Errorf("%v", err)
		}
		if said.String() != "0\n" {
			t.Errorf("standard error is %q", said.String())
		}
		if !bytes.Equal(out.Bytes(), random) {
			t.Errorf("%d bytes came back changed, as %d", len(random), out.Len())
		}
	})
	t.Run("arguments", func(t *testing.T) {
		want := "a b|'|\"|$HOME|\\|*||\n|ü|%"
		out, err := device.Output(t.Context(), p, append([]string{"sh", "-c", `for a; do printf '%s|' "$a"; done`, "sh"}, strings.Split(want, "|")...)...)
		if err != nil || string(out) != want+"|" {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("daemon", func(t *testing.T) {
		out, err := device.Output(t.Context(), p, "sh", "-c", "setsid sleep 600 & echo started")
		if err != nil || string(out) != "started\n" {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("a command that does not read", func(t *testing.T) {
		if err := p.Run(t.Context(), device.Command{Args: []string{"true"}, Stdin: bytes.NewReader(random)}); err != nil {
			t.Error(err)
		}
	})
	t.Run("endless output", func(t *testing.T) {
		if _, err := device.Output(t.Context(), p, "yes"); err == nil || errors.As(err, new(*device.TimeoutError)) {
			t.Errorf("%v", err)
		}
	})
	t.Run("files", func(t *testing.T) {
		if err := device.WriteFile(t.Context(), p, "/data/sovereign/a file", 0o600, bytes.NewReader(random), int64(len(random))); err != nil {
			t.Fatal(err)
		}
		if got, err := device.ReadFile(t.Context(), p, "/data/sovereign/a file"); err != nil || !bytes.Equal(got, random) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("cut", func(t *testing.T) {
		a.CutAfter(300 << 10)
		err := device.WriteFile(t.Context(), p, "/data/sovereign/a file", 0o600, bytes.NewReader(make([]byte, 2<<20)), 2<<20)
		var lost *device.LostError
		if !errors.As(err, &lost) {
			t.Errorf("%v", err)
		}
		s.Connect(a)
		if got, err := device.ReadFile(t.Context(), p, "/data/sovereign/a file"); err != nil || !bytes.Equal(got, random) {
			t.Errorf("the file is no longer the old one: %d bytes, %v", len(got), err)
		}
	})
	t.Run("cut while nothing is sent", func(t *testing.T) {
		silent, never := io.Pipe()
		defer never.Close()
		ready, read := io.Pipe()
		failed := make(chan error, 1)
		go func() {
			failed <- p.Run(t.Context(), device.Command{Args: []string{"sh", "-c", "echo; cat"}, Stdin: silent, Stdout: read})
		}()
		ready.Read(make([]byte, 1))
		a.Cut()
		var lost *device.LostError
		if err := <-failed; !errors.As(err, &lost) {
			t.Errorf("%v", err)
		}
		s.Connect(a)
	})
	t.Run("server restarted", func(t *testing.T) {
		ready, read := io.Pipe()
		failed := make(chan error, 1)
		go func() {
			failed <- p.Run(t.Context(), device.Command{Args: []string{"sh", "-c", "echo; sleep 600"}, Stdout: read})
		}()
		ready.Read(make([]byte, 1))
		s.Restart()
		var lost *device.LostError
		if err := <-failed; !errors.As(err, &lost) {
			t.Errorf("%v", err)
		}
		s.Connect(a)
		if _, err := device.Output(t.Context(), p, "true"); err != nil {
			t.Error(err)
		}
	})
	t.Run("stall", func(t *testing.T) {
		a.Stall()
		defer a.Resume()
		var timeout *device.TimeoutError
		if err := p.Run(t.Context(), device.Command{Args: []string{"true"}, Limit: 500 * time.Millisecond}); !errors.As(err, &timeout) {
			t.Errorf("%v", err)
		}
	})
}

func TestADBRoot(t *testing.T) {
	s := androidtest.NewADBServer(t)
	for _, c := range []struct {
		superuser androidtest.Superuser
		says      string // empty: it works
	}{
		{androidtest.Magisk, ""},
		{androidtest.KernelSU, ""},
		{androidtest.APatch, ""},
		{androidtest.AOSP, ""},
		{androidtest.RootShell, ""},
		{androidtest.Denied, "Permission denied"},
		{androidtest.Unrooted, "inaccessible or not found"},
	} {
		t.Run(string(c.superuser), func(t *testing.T) {
			a := androidtest.New(t, androidtest.Options{Superuser: c.superuser}).ServeADB(androidtest.ADBOptions{})
			s.Connect(a)
			p := device.ADB(s.Program(), a.Serial())
			out, err := device.Output(t.Context(), p, "sh", "-c", `echo "$(id -u) it's $1"`, "sh", `a "b" $c`)
			var root *device.RootError
			switch {
			case c.says == "" && (err != nil || string(out) != "0 it's a \"b\" $c\n"):
				t.Errorf("%q, %v", out, err)
			case c.says != "" && (!errors.As(err, &root) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "KernelSU")):
				t.Errorf("%v", err)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	s := androidtest.NewADBServer(t)
	names := func(phones []device.Phone) (out []string) {
		for _, p := range phones {
			out = append(out, p.Name())
		}
		return out
	}
	choice := device.Choice{ADB: s.Program()}
	if _, err := device.Choose(t.Context(), choice); !errors.Is(err, device.ErrNone) {
		t.Errorf("none attached: %v", err)
	}
	one := androidtest.New(t, androidtest.Options{})
	first := one.ServeADB(androidtest.ADBOptions{})
	s.Connect(first)
	if got, err := device.Choose(t.Context(), choice); err != nil || strings.Join(names(got), " ") != first.Serial() {
		t.Errorf("one attached: %v, %v", names(got), err)
	}
	locked := one.ServeADB(androidtest.ADBOptions{Unauthorized: true})
	s.Connect(locked)
	if got, err := device.Choose(t.Context(), choice); err != nil || strings.Join(names(got), " ") != first.Serial() {
		t.Errorf("one usable: %v, %v", names(got), err)
	}
	second := one.ServeADB(androidtest.ADBOptions{})
	s.Connect(second)
	dir := t.TempDir()
	asked := 0
	for _, c := range []struct {
		name   string
		choice device.Choice
		want   string
		says   []string
	}{
		{name: "several", says: []string{"several phones", first.Serial(), second.Serial(), "--device"}},
		{name: "two, one of them twice", choice: device.Choice{Devices: []string{second.Serial(), "adb:" + first.Serial(), "adb:" + second.Serial()}}, want: second.Serial() + " " + first.Serial()},
		{name: "unauthorized", choice: device.Choice{Devices: []string{locked.Serial()}}, says: []string{"unauthorized", "allow USB debugging"}},
		{name: "all, but one cannot", choice: device.Choice{All: true}, says: []string{"--all", locked.Serial()}},
		{name: "all and device", choice: device.Choice{All: true, Devices: []string{first.Serial()}}, says: []string{"exclude"}},
		{name: "unknown", choice: device.Choice{Devices: []string{"nobody"}}, says: []string{"not attached", first.Serial()}},
		{name: "ssh and local", choice: device.Choice{Devices: []string{"ssh:me@there", "local:" + dir}}, want: "me@there " + dir},
		{name: "ssh option", choice: device.Choice{Devices: []string{"ssh:-oProxyCommand=x"}}, says: []string{"not an ssh destination"}},
		{name: "local nowhere", choice: device.Choice{Devices: []string{"local:" + dir + "/x"}}, says: []string{"the folder does not exist"}},
		{name: "local file", choice: device.Choice{Devices: []string{"local:" + s.Program()}}, says: []string{"not a folder"}},
		{name: "asked", want: second.Serial(), choice: device.Choice{Ask: func(devices []device.Device) (device.Device, error) {
			asked = len(devices)
			return devices[slices.IndexFunc(devices, func(d device.Device) bool { return d.Serial == second.Serial() })], nil
		}}},
		{name: "no adb", choice: device.Choice{ADB: dir + "/adb"}, says: []string{"no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.choice.ADB == "" {
				c.choice.ADB = s.Program()
			}
			got, err := device.Choose(t.Context(), c.choice)
			if c.says == nil && err != nil || strings.Join(names(got), " ") != c.want {
				t.Errorf("%v, %v, want %s", names(got), err, c.want)
			}
			for _, word := range c.says {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("%v does not say %q", err, word)
				}
			}
		})
	}
	if asked != 2 {
		t.Errorf("asked about %d phones, want the two that can be used", asked)
	}
	s.Run("disconnect", locked.Serial())
	choice.All = true
	if got, err := device.Choose(t.Context(), choice); err != nil || len(got) != 2 {
		t.Errorf("all: %v, %v", names(got), err)
	}
}
