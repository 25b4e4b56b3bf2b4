package android

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Phone is the Android system that this program runs on.
type Phone struct {
	Bin  string       // folder of getprop, device_config and settings; "" is /system/bin
	Proc string       // "" is /proc
	Root string       // folder before the paths of control groups; "" is /
	Log  func(string) // takes a line for the user; nil: none
}

const (
	// callTimeout bounds one call: settings and device_config start a Java program, which takes
	// seconds on a busy phone.
	callTimeout = 20 * time.Second
	// bootPoll is how often the boot's progress is asked for.
	bootPoll = time.Second
)

// Is tells whether this is Android.
func (p Phone) Is() bool {
	_, err := os.Stat(p.program("getprop"))
	return err == nil
}

func (p Phone) program(name string) string {
	bin := p.Bin
	if bin == "" {
		bin = "/system/bin"
	}
	return filepath.Join(bin, name)
}

func (p Phone) log(format string, args ...any) {
	if p.Log != nil {
		p.Log(fmt.Sprintf(format, args...))
	}
}

// run runs one of Android's programs and returns what it prints, without the last newline.
func (p Phone) run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, p.program(name), args...)
	command.WaitDelay = time.Second
	out, err := command.Output()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// WaitBooted waits until Android has started and its modules (APEX), of which crosvm is in one, are
// mounted. It returns at once on any other Linux, and fails when ctx ends.
func (p Phone) WaitBooted(ctx context.Context) error {
	if !p.Is() {
		return nil
	}
	ticker := time.NewTicker(bootPoll)
	defer ticker.Stop()
	said := false
	for {
		waiting := p.notBooted(ctx)
		if waiting == "" {
			return nil
		}
		if !said {
			p.log("Android is still starting: waiting for %s", waiting)
			said = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Android to start: %s: %w", waiting, ctx.Err())
		case <-ticker.C:
		}
	}
}

// notBooted names what is not yet as it is on a phone that has started.
func (p Phone) notBooted(ctx context.Context) string {
	for _, want := range []struct{ property, values string }{{"sys.boot_completed", "1"}, {"apexd.status", "ready activated"}} {
		value, err := p.run(ctx, "getprop", want.property)
		if err != nil || value == "" || !strings.Contains(" "+want.values+" ", " "+value+" ") {
			return want.property
		}
	}
	return ""
}

// phantom is how the phantom-process killer (Android 12 and later) is turned off, for the whole
// phone. It counts children of apps' processes; whether it ever counts what root has started is not
// known. Each setting is read first: one that holds is not written, so that a second call changes
// nothing.
var phantom = []struct {
	program     string
	read, write []string
	holds       string // what read prints where nothing is to be done
	without     string // what that would mean, for the log
}{
	{
		"device_config", []string{"get_sync_disabled_for_tests"}, []string{"set_sync_disabled_for_tests", "persistent"}, "persistent",
		"Google's servers may set the limit back",
	},
	{
		"device_config", []string{"get", "activity_manager", "max_phantom_processes"},
		[]string{"put", "activity_manager", "max_phantom_processes", "2147483647"}, "2147483647",
		"Android may kill processes when more than 32 of apps run",
	},
	{
		"settings", []string{"get", "global", "settings_enable_monitor_phantom_procs"},
		[]string{"put", "global", "settings_enable_monitor_phantom_procs", "false"}, "false",
		"Android may kill processes as phantom ones",
	},
}

// LiftPhantomLimit turns the phantom-process killer off for all apps. What cannot be set is logged
// and holds nothing up: older Androids know neither the killer nor its settings. The settings stay
// when the machine is gone, as a person's would.
func (p Phone) LiftPhantomLimit(ctx context.Context) {
	if !p.Is() {
		return
	}
	for _, s := range phantom {
		if now, err := p.run(ctx, s.program, s.read...); err == nil && now == s.holds {
			continue
		}
		if _, err := p.run(ctx, s.program, s.write...); err != nil {
			p.log("%v: %s", err, s.without)
		}
	}
}

// neverKilled is the oom_score_adj of a process that the kernel spares (proc(5)).
const neverKilled = -1000

// ProtectFromOOM keeps the kernel's and Android's low-memory killers from a process. It needs root.
func (p Phone) ProtectFromOOM(pid int) error {
	err := os.WriteFile(filepath.Join(p.proc(), strconv.Itoa(pid), "oom_score_adj"), []byte(strconv.Itoa(neverKilled)), 0)
	if err != nil {
		return fmt.Errorf("protect process %d from the low-memory killer: %w", pid, err)
	}
	return nil
}

func (p Phone) proc() string {
	if p.Proc == "" {
		return "/proc"
	}
	return p.Proc
}

// hierarchies are where Android may have control groups by which it ends processes: version 2, and
// version 1 of older releases. Root managers leave the groups in the same places.
var hierarchies = []string{"/sys/fs/cgroup", "/acct", "/dev/cg2_bpf", "/dev/memcg/apps"}

// LeaveCgroup moves the calling process to the root of the cgroup hierarchies. When a service ends,
// Android's init kills all that is in its group, under any parent
// (system/core/init/service.cpp, Service::Reap): what a shell of adbd has started ends when adbd
// restarts, and what an app has started ends with the app. Hierarchies that do not exist are passed
// over, and on other systems than Android nothing is done.
func (p Phone) LeaveCgroup() {
	if !p.Is() {
		return
	}
	for _, root := range hierarchies {
		err := os.WriteFile(filepath.Join(p.Root, root, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.log("leave the control group: %v: the machine ends with what started it, such as adbd", err)
		}
	}
}
