package crosvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/avf"
)

// AndroidPath is the path of crosvm in Android's virtualization module.
const AndroidPath = "/apex/com.android.virt/bin/crosvm"

// libraryPath has crosvm's libraries, for a caller whose linker configuration does not include the
// module.
const libraryPath = "LD_LIBRARY_PATH=/apex/com.android.virt/lib64:/system/lib64"

// A Program is a crosvm program that works.
type Program struct {
	Path  string
	Env   []string        // additions to the caller's environment
	Flags map[string]bool // listed by `run --help`, such as "--block"
}

// probeTimeout is the timeout of a call that does not start a machine.
const probeTimeout = 10 * time.Second

// ErrLacks is wrapped by errors about a working crosvm that was built without a required feature.
var ErrLacks = errors.New("this crosvm was built without")

// Find runs the crosvm at path, or Android's if path is empty, to list its flags. The error wraps
// ErrLacks if crosvm works but cannot run machines.
func Find(ctx context.Context, path string) (*Program, error) {
	if path == "" {
		path = AndroidPath
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("find crosvm: %w: does this phone have Android's virtualization module (Android 13 and later)? "+
			"another crosvm can be named in settings.json", err)
	}
	var failures []error
	for _, env := range [][]string{nil, {libraryPath}} {
		p := &Program{Path: path, Env: env}
		help, err := p.ask(ctx, "run", "--help")
		p.Flags = avf.ParseHelp(help)
		if len(p.Flags) > 0 { // some versions exit with an error after printing help
			return p, p.Lacks(avf.Options{})
		}
		if err == nil {
			err = errors.New("`run --help` lists no flags")
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("find crosvm: %s does not run: %w", path, failures[len(failures)-1])
}

// Lacks returns an error that wraps ErrLacks if the program cannot run a machine with the resolved
// options o.
func (p *Program) Lacks(o avf.Options) error {
	if lacks := avf.Lacks(p.Flags, o); lacks != "" {
		return fmt.Errorf("find crosvm: %s: %w %s: name another crosvm in settings.json", p.Path, ErrLacks, lacks)
	}
	return nil
}

// ask runs the program to its end and returns all its output.
func (p *Program) ask(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, p.Path, args...)
	command.Env = append(os.Environ(), p.Env...)
	command.WaitDelay = time.Second // a child that keeps the pipe open must not block the runner
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", p.Path, strings.Join(args, " "), err, lastLine(string(out)))
	}
	return string(out), err
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// Stop ends the machine of a control socket at once, without a shutdown of the guest.
func (p *Program) Stop(ctx context.Context, socket string) error {
	_, err := p.ask(ctx, "stop", socket)
	return err
}
