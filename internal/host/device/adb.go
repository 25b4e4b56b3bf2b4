package device

import (
	"context"
	"os/exec"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// ADB returns the phone with a serial, by the adb program: a path or a name to be found in $PATH.
func ADB(program, serial string) Phone {
	return &link{
		name: serial, root: phonepath.Default,
		client: func(ctx context.Context, script string, _ bool) *exec.Cmd {
			// -T: no terminal, so that bytes are not changed and standard error is separate, which
			// needs the phone's shell protocol (Android 7 and later).
			return exec.CommandContext(ctx, program, "-s", serial, "shell", "-T", script)
		},
		explain: func(said string) string { return explainADB(serial, said) },
	}
}

// adbAdvice maps messages of the adb client to advice (adb's sources: transport.cpp,
// client/commandline.cpp).
var adbAdvice = []struct{ said, advice string }{
	{"unauthorized", adviceUnauthorized},
	{"authorizing", adviceUnauthorized},
	{"offline", adviceOffline},
	{"no permissions", adviceNoPermissions},
	{"not found", "plug it in, or connect it with `adb connect`; `adb devices` lists the attached phones"},
	{"no devices", "plug it in, or connect it with `adb connect`; `adb devices` lists the attached phones"},
	{"cannot connect to daemon", "the adb server does not start: try `adb kill-server`, then `adb devices`"},
	{"failed to check server version", "the adb server does not start: try `adb kill-server`, then `adb devices`"},
	{"doesn't support", "its Android is too old: 13 is needed"},
	{"closed", "was it unplugged, or the adb server restarted? Run the command again"},
}

const (
	adviceUnauthorized  = "unlock its screen and allow USB debugging for this computer"
	adviceOffline       = "unplug it and plug it in again, or switch USB debugging off and on; over the network, `adb disconnect` and `adb connect`"
	adviceNoPermissions = "this computer's user may not use the USB device: install udev rules for Android (Debian: android-sdk-platform-tools-common) and join the group plugdev"
)

func explainADB(serial, said string) string {
	said = lastLines(said)
	if said == "" {
		said = "adb ended without a word"
	}
	for _, a := range adbAdvice {
		if strings.Contains(strings.ToLower(said), a.said) {
			return said + ": " + a.advice
		}
	}
	return said + ": was " + serial + " unplugged, or the adb server restarted? Run the command again"
}

// lastLines joins the last lines of a program's output to one line.
func lastLines(said string) string {
	const enough = 3
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return Printable(strings.Join(lines[max(0, len(lines)-enough):], "\n"))
}
