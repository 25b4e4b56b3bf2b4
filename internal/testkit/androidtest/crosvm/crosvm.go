// Package crosvm simulates Android's program crosvm. It behaves like the crosvm of one release of
// Android on an arm64 phone, on any computer: it accepts that release's flags (package crosvmcli),
// gives the machine the same devices with QEMU, and has the same control socket, log format and
// exit statuses. The machine ends with it, even if it is killed.
//
// The file PROGRAM.json beside the program selects the release and the features of the phone's
// hypervisor; see crosvmcli.Build.
//
// If KERNEL is a script of package lightguest, the machine is a light guest, without QEMU.
package crosvm

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// Main runs crosvm with these arguments and returns the exit status.
func Main(words []string) int {
	signal.Ignore(syscall.SIGPIPE) // as Rust's runtime does
	// A phone's $PATH does not include /usr/bin, which contains QEMU.
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/bin")
	build, err := crosvmcli.OwnBuild()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in for crosvm:", err)
		return crosvmcli.StatusFailed
	}
	l := newLogger(build.Release, "info")
	table := build.Table()
	c, err := table.Parse(build.Release, words, exists)
	var refusal *crosvmcli.Refusal
	if errors.As(err, &refusal) {
		l.refuse(refusal)
		return refusal.Status
	}
	if c.Help {
		fmt.Print(table.Help(build.Release, c.Verb))
		return 0
	}
	l = newLogger(build.Release, c.Log)
	switch c.Verb {
	case "version":
		fmt.Println("crosvm 0.1.0")
		return 0
	case "run":
		for _, flag := range c.Machine.Deprecated {
			l.say("WARN", "crosvm::crosvm::cmdline", fmt.Sprintf("%s is deprecated", flag))
		}
		r := &running{Machine: c.Machine, build: build, log: l}
		o, err := r.run()
		return l.end(o, err, c.Extended)
	}
	return client(build.Release, l, c.Verb, c.Args)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
