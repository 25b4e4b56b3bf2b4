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
	Log  func(string) // called with lines for the user; may be nil
}

const (
	// callTimeout is the timeout of one call: settings and device_config start a Java program,
	// which takes seconds on a busy phone.
	callTimeout = 20 * time.Second
	// bootPoll is the polling interval of the boot's progress.
	bootPoll = time.Second
)

// Is reports whether this is Android.
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
// mounted. On other systems it returns at once. It returns an error when ctx ends.
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

// notBooted names a condition of a booted phone that is not met yet, or returns "".
func (p Phone) notBooted(ctx context.Context) string {
	for _, want := range []struct{ property, values string }{{"sys.boot_completed", "1"}, {"apexd.status", "ready activated"}} {
		value, err := p.run(ctx, "getprop", want.property)
		if err != nil || value == "" || !strings.Contains(" "+want.values+" ", " "+value+" ") {
			return want.property
		}
	}
	return ""
}

// phantom lists the settings that disable the phantom-process killer (Android 12 and later) for the
// whole phone. It counts children of apps' processes; it is unknown whether it counts processes of
// root. Each setting is read first and written only if it differs.
var phantom = []struct {
	program     string
	read, write []string
	holds       string // the output of read if the setting is in effect
	without     string // the consequence of a failure, for the log
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

// LiftPhantomLimit disables the phantom-process killer for all apps. It only logs errors: older
// versions of Android have neither the killer nor its settings. The settings stay after the machine
// is removed.
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

// neverKilled is the oom_score_adj of a process that the kernel never kills (proc(5)).
const neverKilled = -1000

// ProtectFromOOM protects a process from the low-memory killers of the kernel and of Android. It
// needs root.
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

// hierarchies are the mount points of the cgroup hierarchies with which Android may kill processes:
// version 2, and version 1 in older releases. Root managers leave the groups in the same places.
var hierarchies = []string{"/sys/fs/cgroup", "/acct", "/dev/cg2_bpf", "/dev/memcg/apps"}

// LeaveCgroup moves the calling process to the root of the cgroup hierarchies. When a service ends,
// Android's init kills all processes in its group, whatever their parent
// (system/core/init/service.cpp, Service::Reap): processes that an adb shell started end when adbd
// restarts, and those of an app end with the app. LeaveCgroup skips hierarchies that do not exist,
// and does nothing on other systems than Android.
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
