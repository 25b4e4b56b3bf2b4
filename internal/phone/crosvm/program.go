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

// AndroidPath is where Android's virtualization module has crosvm.
const AndroidPath = "/apex/com.android.virt/bin/crosvm"

// libraryPath holds the libraries that crosvm is linked with, for a caller whose linker
// configuration does not know the module.
const libraryPath = "LD_LIBRARY_PATH=/apex/com.android.virt/lib64:/system/lib64"

// A Program is a crosvm that was found to run.
type Program struct {
	Path  string
	Env   []string        // what it needs in its environment besides the caller's
	Flags map[string]bool // that its `run --help` lists, such as "--block"
}

// probeTimeout bounds a question to the program, which answers without starting a machine.
const probeTimeout = 10 * time.Second

// ErrLacks is wrapped by errors about a crosvm that runs, and that was built without what a machine
// needs.
var ErrLacks = errors.New("this crosvm was built without")

// Find asks the crosvm at path, or Android's where path is empty, which flags it knows. The error
// says what is wrong when it does not run at all; it wraps ErrLacks where a machine cannot be run
// with it.
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

// Lacks returns an error that wraps ErrLacks where the program cannot run a machine with options
// that leave nothing open.
func (p *Program) Lacks(o avf.Options) error {
	if lacks := avf.Lacks(p.Flags, o); lacks != "" {
		return fmt.Errorf("find crosvm: %s: %w %s: name another crosvm in settings.json", p.Path, ErrLacks, lacks)
	}
	return nil
}

// ask runs the program to its end and returns all that it says.
func (p *Program) ask(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, p.Path, args...)
	command.Env = append(os.Environ(), p.Env...)
	command.WaitDelay = time.Second // a child that keeps the pipe open does not hold the runner up
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

// Stop ends the machine behind a control socket at once; the guest is not asked.
func (p *Program) Stop(ctx context.Context, socket string) error {
	_, err := p.ask(ctx, "stop", socket)
	return err
}
