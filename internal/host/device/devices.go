package device

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// A Device is a line of `adb devices -l`.
type Device struct {
	Serial string `json:"serial"`
	State  string `json:"state"`           // "device" if it can be used
	Model  string `json:"model,omitempty"` // such as Pixel_8; empty where adb does not know
}

// Usable reports whether commands can be run on it.
func (d Device) Usable() bool { return d.State == "device" }

// String describes the device.
func (d Device) String() string {
	text := d.Serial
	if d.Model != "" {
		text += " (" + d.Model + ")"
	}
	if !d.Usable() {
		text += ", " + d.State
	}
	return text
}

// fault returns the reason why a device cannot be used.
func (d Device) fault() string {
	if d.State == "no permissions" {
		return "adb has no permission to open it"
	}
	return "it is " + d.State
}

// advice returns what to do about a device that cannot be used.
func (d Device) advice() string {
	switch d.State {
	case "unauthorized", "authorizing":
		return adviceUnauthorized
	case "offline", "connecting":
		return adviceOffline
	case "no permissions":
		return adviceNoPermissions
	case "bootloader", "recovery", "sideload", "rescue":
		return "it is not in Android: restart it with `adb reboot`, or from its own menu"
	}
	return "see `adb devices -l`"
}

const (
	maxDevices = 1000 // lines of a list
	// listLimit is the timeout of adb, including a start of its server, which takes seconds on a
	// slow computer.
	listLimit = 30 * time.Second
)

// missingADB says that the adb program does not exist. It matches exec.ErrNotFound.
type missingADB struct{}

func (missingADB) Error() string {
	return "adb is not installed: install it (Debian: apt install adb; else Android's platform-tools), or use --device ssh:user@host"
}

func (missingADB) Unwrap() error { return exec.ErrNotFound }

// Devices runs adb to list the attached phones. It starts adb's server if it is not running.
func Devices(ctx context.Context, program string) ([]Device, error) {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	// A started server keeps inherited pipes open, so do not pass any.
	start := exec.CommandContext(ctx, program, "start-server")
	alone(start)
	err := start.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, missingADB{}
	}
	var out, said bytes.Buffer
	list := exec.CommandContext(ctx, program, "devices", "-l")
	list.Stdout, list.Stderr = &limited{w: &out, left: MaxOutput}, &limited{w: &said, left: MaxOutput}
	alone(list)
	if err := list.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ask adb for its devices: no answer in %v: try `adb kill-server`", listLimit)
		}
		return nil, fmt.Errorf("ask adb for its devices: %w: %s", err, explainADB("", said.String()))
	}
	return ParseDevices(out.Bytes())
}

// ParseDevices reads what `adb devices -l` prints: a line each of serial, state and details (adb's
// transport.cpp, append_transport).
func ParseDevices(text []byte) ([]Device, error) {
	var devices []Device
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || strings.HasPrefix(lines.Text(), "List of devices") || strings.HasPrefix(lines.Text(), "*") {
			continue
		}
		if len(devices) == maxDevices {
			return nil, fmt.Errorf("adb lists more than %d devices", maxDevices)
		}
		d := Device{Serial: Printable(fields[0]), State: Printable(fields[1])}
		if fields[1] == "no" { // "no permissions (user in plugdev group; are your udev rules wrong?); see [http://…]"
			d.State = "no permissions"
		}
		for _, f := range fields[2:] {
			if model, ok := strings.CutPrefix(f, "model:"); ok {
				d.Model = Printable(model)
			}
		}
		if !strings.HasPrefix(d.Serial, "-") && d.Serial != "" {
			devices = append(devices, d)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("adb's list of devices: %w", err)
	}
	return devices, nil
}
