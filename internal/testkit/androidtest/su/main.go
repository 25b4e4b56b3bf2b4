// Command su stands in for the su of a rooted phone, set-user-ID root. The file /system/etc/su says whose it is: "debug" is
// that of Android's own debuggable builds, "denied" a root manager that says no, and anything else KernelSU's or Magisk's.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func main() {
	text, _ := os.ReadFile("/system/etc/su")
	kind := strings.TrimSpace(string(text))
	if kind == "denied" {
		fmt.Fprintln(os.Stderr, "Permission denied")
		os.Exit(1)
	}
	argv, err := command(kind, os.Args[1:])
	if err == nil {
		err = run(argv)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// command returns what is to be run as root.
func command(kind string, args []string) ([]string, error) {
	switch {
	case kind == "debug" && len(args) >= 2 && args[0] == "0":
		return args[1:], nil
	case kind == "debug" && len(args) >= 1:
		return nil, fmt.Errorf("su: invalid uid/gid '%s'", args[0])
	case len(args) == 2 && args[0] == "-c":
		return []string{"/bin/sh", "-c", args[1]}, nil
	}
	return nil, fmt.Errorf("usage: su -c COMMAND")
}

func run(argv []string) error {
	for _, become := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(0) },
		func() error { return syscall.Setuid(0) },
	} {
		if err := become(); err != nil {
			return fmt.Errorf("su: become root: %w", err)
		}
	}
	path := argv[0]
	for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
		if strings.Contains(path, "/") {
			break
		}
		if info, err := os.Stat(dir + "/" + argv[0]); err == nil && info.Mode().IsRegular() {
			path = dir + "/" + argv[0]
		}
	}
	return fmt.Errorf("su: %s: %w", path, syscall.Exec(path, argv, os.Environ()))
}
