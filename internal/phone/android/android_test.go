package android

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fake makes a folder of Android's programs that store values in files and log calls.
func fake(t *testing.T, props map[string]string) (Phone, func() []string) {
	t.Helper()
	dir := t.TempDir()
	const script = `#!/bin/sh
cd DIR; name=${0##*/}
echo "$name $*" >>calls
case "$name $1" in
"getprop "*) cat "prop.$1" 2>/dev/null ;;
*get_sync*) cat sync 2>/dev/null || echo none ;;
*set_sync*) echo "$2" >sync ;;
*" get") cat "$2.$3" 2>/dev/null || echo null ;;
*" put") echo "$4" >"$2.$3" ;;
esac
`
	for _, name := range []string{"getprop", "device_config", "settings"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(script, "DIR", dir)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range props {
		if err := os.WriteFile(filepath.Join(dir, "prop."+name), []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Phone{Bin: dir, Log: func(s string) { t.Log(s) }}, func() []string {
		text, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

func TestWaitBooted(t *testing.T) {
	for _, apex := range []string{"ready", "activated"} {
		p, _ := fake(t, map[string]string{"sys.boot_completed": "1", "apexd.status": apex})
		if err := p.WaitBooted(t.Context()); err != nil {
			t.Errorf("apexd %s: %v", apex, err)
		}
	}
	p, _ := fake(t, map[string]string{"sys.boot_completed": "1", "apexd.status": "starting"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.Log = func(string) { cancel() } // WaitBooted has read the state and waits
	if err := p.WaitBooted(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "apexd.status") {
		t.Errorf("got %v", err)
	}
}

// TestHangingProgram: a property program that hangs does not block a caller beyond its timeout.
func TestHangingProgram(t *testing.T) {
	p, _ := fake(t, nil)
	if err := os.WriteFile(filepath.Join(p.Bin, "getprop"), []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.WaitBooted(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestLiftPhantomLimit(t *testing.T) {
	p, calls := fake(t, nil)
	p.LiftPhantomLimit(t.Context())
	want := []string{
		"device_config set_sync_disabled_for_tests persistent",
		"device_config put activity_manager max_phantom_processes 2147483647",
		"settings put global settings_enable_monitor_phantom_procs false",
	}
	writes := func() (out []string) {
		for _, call := range calls() {
			if strings.Contains(call, " put ") || strings.Contains(call, " set_") {
				out = append(out, call)
			}
		}
		return out
	}
	if got := writes(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("wrote %q", got)
	}
	p.LiftPhantomLimit(t.Context())
	if got := writes(); len(got) != len(want) {
		t.Errorf("a second call wrote again: %q", got)
	}
}

func TestNotAndroid(t *testing.T) {
	p := Phone{Bin: t.TempDir(), Log: func(s string) { t.Error(s) }}
	if p.Is() {
		t.Error("an empty folder is taken for Android")
	}
	if err := p.WaitBooted(t.Context()); err != nil {
		t.Error(err)
	}
	p.LiftPhantomLimit(t.Context())
	p.LeaveCgroup()
}

// TestLeaveCgroup: the calling process leaves its group in every existing hierarchy.
func TestLeaveCgroup(t *testing.T) {
	p, _ := fake(t, nil)
	p.Root = t.TempDir()
	there := []string{"/sys/fs/cgroup", "/dev/cg2_bpf", "/dev/memcg/apps"}
	for _, dir := range there {
		if err := os.MkdirAll(filepath.Join(p.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.Log = func(line string) { t.Error(line) }
	p.LeaveCgroup()
	for _, dir := range there {
		if got, err := os.ReadFile(filepath.Join(p.Root, dir, "cgroup.procs")); err != nil || string(got) != strconv.Itoa(os.Getpid()) {
			t.Errorf("%s: %q, %v", dir, got, err)
		}
	}
}

func TestProtectFromOOM(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "42"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(proc, "42", "oom_score_adj")
	if err := os.WriteFile(file, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := Phone{Proc: proc}
	if err := p.ProtectFromOOM(42); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "-1000" {
		t.Errorf("wrote %q", got)
	}
	if err := p.ProtectFromOOM(43); err == nil {
		t.Error("a process that is not there was protected")
	}
}
