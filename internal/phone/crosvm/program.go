package crosvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// AndroidPath is where Android's virtualization module has crosvm.
const AndroidPath = "/apex/com.android.virt/bin/crosvm"

// libraryPath holds the libraries that crosvm is linked with, for a caller whose linker configuration does not know
// the module.
const libraryPath = "LD_LIBRARY_PATH=/apex/com.android.virt/lib64:/system/lib64"

// A Program is a crosvm that was found to run.
type Program struct {
	Path  string
	Env   []string        // what it needs in its environment besides the caller's
	Flags map[string]bool // that its `run --help` lists, such as "--block"
}

// probeTimeout bounds a question to the program, which answers without starting a machine.
const probeTimeout = 10 * time.Second

// ErrLacks is wrapped by errors about a crosvm that runs, and that was built without what a machine needs.
var ErrLacks = errors.New("this crosvm was built without")

// needs are the flags of which a crosvm must know one each, and what they are for.
var needs = []struct {
	any  []string
	what string
}{
	{[]string{"--block", "--rwdisk"}, "disks"},
	{[]string{"--net", "--tap-fd"}, "a network card"},
	{[]string{"--serial"}, "consoles"},
	{[]string{"--socket"}, "a control socket"},
	{[]string{"--params"}, "kernel parameters"},
}

// Find asks the crosvm at path, or Android's where path is empty, which flags it knows. The error says what is wrong
// when it does not run at all; it wraps ErrLacks where a machine cannot be run with it.
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
		p.Flags = ParseHelp(help)
		if len(p.Flags) > 0 { // some versions exit with an error after printing help
			if lacks := Lacks(p.Flags); lacks != "" {
				return nil, fmt.Errorf("find crosvm: %s: %w %s: name another crosvm in settings.json", path, ErrLacks, lacks)
			}
			return p, nil
		}
		if err == nil {
			err = errors.New("`run --help` lists no flags")
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("find crosvm: %s does not run: %w", path, failures[len(failures)-1])
}

// flagLine is a line of help that begins with a flag. Android 13 writes ` -d, --disk        =PATH`, later ones
// `  -b, --block       parameters…`; descriptions that mention other flags are indented further.
var flagLine = regexp.MustCompile(`(?m)^ {1,8}(?:-\w, )?(--[a-z0-9][a-z0-9_-]*)`)

// ParseHelp returns the flags that the text of `run --help` lists.
func ParseHelp(text string) map[string]bool {
	flags := map[string]bool{}
	for _, m := range flagLine.FindAllStringSubmatch(text, -1) {
		if m[1] != "--help" {
			flags[m[1]] = true
		}
	}
	return flags
}

// Lacks names what a crosvm with these flags cannot give a machine; "" where nothing is missing.
func Lacks(flags map[string]bool) string {
	var lacks []string
	for _, n := range needs {
		there := false
		for _, flag := range n.any {
			there = there || flags[flag]
		}
		if !there {
			lacks = append(lacks, fmt.Sprintf("%s (%s)", n.what, strings.Join(n.any, ", ")))
		}
	}
	return strings.Join(lacks, ", ")
}

// ask runs the program to its end and returns all that it says.
func (p *Program) ask(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, p.Path, args...)
	command.Env = append(os.Environ(), p.Env...)
	command.WaitDelay = time.Second // a child that keeps the pipe open holds nobody up
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
