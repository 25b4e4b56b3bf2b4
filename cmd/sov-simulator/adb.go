//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// adbPatience is the timeout of an adb command.
const adbPatience = 30 * time.Second

// An adb runs the adb program.
type adb struct {
	environment []string
	attributes  syscall.SysProcAttr
}

// findADB returns the adb of the user who ran sudo. If no adb server runs yet, adb starts one with
// that user's keys.
func findADB() adb {
	// The terminal's Ctrl-C must not reach adb or a server that it starts.
	a := adb{environment: os.Environ(), attributes: syscall.SysProcAttr{Setpgid: true}}
	uid, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32)
	gid, err2 := strconv.ParseUint(os.Getenv("SUDO_GID"), 10, 32)
	u, err3 := user.LookupId(os.Getenv("SUDO_UID"))
	if err == nil && err2 == nil && err3 == nil {
		a.environment = append(a.environment, "HOME="+u.HomeDir)
		a.attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return a
}

// run runs adb and returns its output.
func (a adb) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, adbPatience)
	defer cancel()
	command := exec.CommandContext(ctx, "adb", args...)
	command.Env, command.SysProcAttr, command.WaitDelay = a.environment, &a.attributes, time.Second
	out, err := command.CombinedOutput()
	return string(out), err
}

// connect connects the computer's adb server to a phone and returns the number of other devices.
func (a adb) connect(ctx context.Context, serial string) (others int, err error) {
	output, err := a.run(ctx, "connect", serial)
	for deadline := time.Now().Add(adbPatience); err == nil; time.Sleep(50 * time.Millisecond) {
		devices, err := a.run(ctx, "devices")
		if err == nil && strings.Contains(devices, serial+"\tdevice\n") {
			return strings.Count(devices, "\t") - 1, nil
		}
		if err != nil || time.Now().After(deadline) {
			break
		}
	}
	return 0, fmt.Errorf("adb connect %s: %s: start with --no-connect, and connect by hand", serial, strings.TrimSpace(output))
}
