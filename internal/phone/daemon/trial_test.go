package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
	"github.com/sovereign-sql/sov/internal/phone/slots"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

// onTrial returns a daemon whose machine has a good version in slot a and a new, current version in
// slot b.
func onTrial(t *testing.T) *Daemon {
	t.Helper()
	root := phonepath.Root(t.TempDir())
	vm, err := root.VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	for i, slot := range slots.Names {
		if err := os.CopyFS(vm.Incoming(), os.DirFS(artifacttest.Make(t, "sql", fmt.Sprint(i+1), []byte("kernel"), []byte("rootfs")))); err != nil {
			t.Fatal(err)
		}
		if err := slots.Commit(vm, slot); err != nil {
			t.Fatal(err)
		}
		if slot == "a" {
			_, trial, _, err := slots.Try(vm)
			if err == nil {
				err = trial.Passed()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	if err := os.MkdirAll(vm.Run(), 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Root: root, Name: "sql", Output: log, vm: vm}
	d.state = &stateFile{path: vm.State(), now: time.Now, log: d.log}
	return d
}

// TestJudge: how a start of a version on trial ends, and whether the version is then given up.
func TestJudge(t *testing.T) {
	panicked := crosvm.Exit{Kind: crosvm.Panic, Code: 34}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		exit   crosvm.Exit
		ready  time.Duration
		err    error
		starts int // the number of starts after which it is given up; 0: never
	}{
		{"its kernel panics", t.Context(), panicked, 0, nil, trialStarts},
		{"crosvm refuses it", t.Context(), crosvm.Exit{Kind: crosvm.InvalidArguments, Code: 35}, 0, nil, 1},
		{"it cannot be loaded", t.Context(), crosvm.Exit{}, 0, unfitError{versionError{errors.New("vm.json is no JSON")}}, 1},
		{"it is never ready", t.Context(), crosvm.Exit{Kind: crosvm.Stopped}, 0, fmt.Errorf("%w: postgres is failed", errNotReady), 1},
		{"it was ready", t.Context(), panicked, time.Second, nil, 0},
		{"the user stops it", ended, crosvm.Exit{Kind: crosvm.Stopped}, 0, context.Canceled, 0},
		{"the interface is made anew", t.Context(), crosvm.Exit{Kind: crosvm.Stopped}, 0, errRenewed, 0},
		{"there is no crosvm", t.Context(), crosvm.Exit{}, 0, unfitError{os.ErrNotExist}, 0},
		{"the disk is full", t.Context(), crosvm.Exit{}, 0, errors.New("data disk: no space left on device"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := onTrial(t)
			for start := 1; start <= trialStarts+1; start++ {
				slot, err := d.tryCurrent()
				if err != nil || slot != "b" {
					t.Fatalf("start %d: slot %q, %v", start, slot, err)
				}
				if c.err == nil || errors.Is(c.err, errNotReady) || c.starts == 0 && c.ctx.Err() != nil || errors.Is(c.err, errRenewed) {
					if err := d.trial.Begin(); err != nil {
						t.Fatal(err)
					}
				}
				if !d.judge(c.ctx, c.exit, c.ready, c.err) {
					if start == c.starts {
						t.Fatal("it was not given up")
					}
					continue
				}
				if start != c.starts {
					t.Fatalf("it was given up after %d starts", start)
				}
				break
			}
			bad := slots.Look(d.vm, "b")
			if want := c.starts > 0; (bad.State == runnerapi.SlotBad) != want || bad.Current == want || d.state.get().RollBack != nil != want {
				t.Errorf("slot b is %+v, the state %+v", bad, d.state.get().RollBack)
			}
			if c.ctx.Err() != nil && bad.Starts != 0 {
				t.Errorf("%d stopped starts are counted", bad.Starts)
			}
		})
	}
}

// TestLastWords: the reason that is kept is the panic or the last line of the console.
func TestLastWords(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"[    1.0] booting\n[  2.0] up": "[  2.0] up",
		"[    1.0] VFS: no root\r\n[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] CPU: 0\n[    1.4] ---[ end Kernel panic - not syncing: VFS ]---\n": "Kernel panic - not syncing: VFS: Unable to mount root fs",
		strings.Repeat("x", 500): strings.Repeat("x", maxWords),
	} {
		path := filepath.Join(t.TempDir(), "console.log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastWords(path); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestHopeless: if a service has failed permanently, a version on trial is not waited for.
func TestHopeless(t *testing.T) {
	status := guestapi.Status{Services: []guestapi.Service{{Name: "postgres", State: guestapi.StateFailed, Reason: "the firewall is not loaded"}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status.Time = time.Now()
		_ = json.NewEncoder(w).Encode(status)
	}))
	defer server.Close()
	d := onTrial(t)
	if _, err := d.tryCurrent(); err != nil {
		t.Fatal(err)
	}
	a := &artifact{spec: &vmspec.Spec{Ready: vmspec.Ready{TimeoutSeconds: 3600}}}
	r := &run{guest: guestapi.NewClient(netip.MustParseAddrPort(server.Listener.Addr().String()), "token"),
		config: &configDisk{file: filepath.Join(t.TempDir(), "config.img")}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := newGuestWatch(d, r, a, nil)
	go w.run(ctx)
	select {
	case err := <-d.hopeless(ctx, w, a):
		if !errors.Is(err, errNotReady) || !strings.Contains(err.Error(), "postgres is failed: the firewall is not loaded") {
			t.Errorf("it is given up: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it is waited for")
	}
}
