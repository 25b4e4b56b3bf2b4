package docs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/netnstest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// tryPatience limits a command of docs/try.md. A command compiles a kernel if no test has built the
// machine yet.
const tryPatience = 15 * time.Minute

// ownTerminal matches the commands for which the document opens a terminal. They run until Ctrl-C.
var ownTerminal = regexp.MustCompile(`^(sudo )?bin/sov-(simulator|mirror)\b`)

// TestTry types every command of docs/try.md, word for word, in a copy of the sources on a computer
// without a network and without an adb server, and compares the output.
func TestTry(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: the simulated phone is made of namespaces")
	}
	found, faults := blocks(filepath.Join(sovtest.Root(), "docs/try.md"), "docs/try.md")
	for _, fault := range faults {
		t.Fatal(fault)
	}
	p := newPerson(t)
	for _, b := range found {
		for _, c := range b.commands {
			if c.output == nil {
				c.output = []string{} // the command must not print anything
			}
			start := time.Now()
			if err := p.types(c); err != nil {
				t.Fatalf("%s: $ %s\n%v", c.at, c.text, err)
			}
			t.Logf("%5.1f s $ %s", time.Since(start).Seconds(), c.text)
		}
	}
	for i := len(p.terminals) - 1; i >= 0; i-- {
		p.terminals[i].interrupt()
	}
	if err := p.types(command{text: "adb devices", output: []string{"List of devices attached", ""}}); err != nil {
		t.Errorf("after the end of the simulators: %v", err)
	}
}

// A person has a computer with a terminal, and can open more terminals.
type person struct {
	t         *testing.T
	reader    *reader
	network   netns.NsHandle
	stdin     io.Writer
	lines     chan string // of the terminal; the shell's lines begin with told
	terminals []*terminal
}

// told begins the line in which the shell reports a command's exit status.
const told = "\x01"

// A terminal runs one command until Ctrl-C.
type terminal struct {
	t       *testing.T
	text    string
	command *exec.Cmd
	out     *output
}

func newPerson(t *testing.T) *person {
	t.Helper()
	p := &person{t: t, reader: newComputer(t).reader(t), network: netnstest.New(t), lines: make(chan string)}
	p.reader.dir = t.TempDir()
	const copySources = `git -C "$1" ls-files -z --cached --others --exclude-standard | tar -C "$1" --null --ignore-failed-read -T - -cf - | tar -x`
	sources := exec.Command("bash", "-euc", copySources, "bash", sovtest.Root())
	sources.Dir = p.reader.dir
	if out, err := sources.CombinedOutput(); err != nil {
		t.Fatalf("copy the sources: %v: %s", err, out)
	}
	// Without a network, sov cannot list kernels. The lock from another test's build takes the
	// place of a committed one.
	sovtest.Artifact(t, "arm64")
	lock, err := os.ReadFile(sovtest.SharedLock("arm64"))
	if err != nil {
		t.Fatal(err)
	}
	address, _, _ := strings.Cut(sovtest.Sources.Image(), "/")
	lock = bytes.ReplaceAll(lock, []byte(address), []byte("127.0.0.1:5080"))
	if err := os.WriteFile(filepath.Join(p.reader.dir, "sov.lock"), lock, 0o644); err != nil {
		t.Fatal(err)
	}
	// The test already runs as root, and sudo may not be installed.
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.reader.setenv("PATH", bin+":"+os.Getenv("PATH"))

	shell := p.bash()
	if p.stdin, err = shell.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	shell.Stdout, shell.Stderr = write, write
	p.start(shell)
	write.Close()
	t.Cleanup(func() {
		defer read.Close()
		fmt.Fprintln(p.stdin, "ip link set lo up; adb kill-server; exit") // the server outlives sov, which started it
		late := time.After(time.Minute)
		for open := true; open; {
			select {
			case _, open = <-p.lines:
			case <-late:
				t.Error("the shell has not exited")
				return
			}
		}
	})
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	if err := p.types(command{text: "ip link set lo up", output: []string{}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// bash returns a shell with arguments, in a new process group.
func (p *person) bash(args ...string) *exec.Cmd {
	c := exec.Command("bash", append([]string{"--norc"}, args...)...)
	c.Dir, c.Env, c.SysProcAttr = p.reader.dir, p.reader.env, &syscall.SysProcAttr{Setpgid: true}
	return c
}

// start starts a command in the computer's network. When the test ends, it kills the command's
// process group.
func (p *person) start(c *exec.Cmd) {
	p.t.Helper()
	if err := childtest.Start(c, func() error { return netns.Set(p.network) }); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // it may have ended
		c.Wait()
	})
}

// types types a command and compares its output.
func (p *person) types(c command) error {
	if ownTerminal.MatchString(c.text) {
		return p.opens(c)
	}
	// The processor is emulated, and other tests use the computer too: the first start may take
	// longer than on a phone.
	text := strings.Replace(c.text, "sov up sql", "sov up sql --set vm.ready.timeout=15m", 1)
	// The test does not type while the command runs.
	fmt.Fprintf(p.stdin, "{ %s\n} </dev/null; printf '\\001%%d\\n' $?\n", text)
	var got []string
	late := time.After(tryPatience)
	for {
		select {
		case line, open := <-p.lines:
			before, status, over := strings.Cut(line, told)
			if before != "" || !over {
				got = append(got, before)
			}
			if !open || over && status != "0" {
				return fmt.Errorf("exit status %s: %s", status, strings.Join(got, "\n"))
			}
			if over {
				return compare(c.output, got)
			}
		case <-late:
			return fmt.Errorf("it has not ended within %v: %s", tryPatience, strings.Join(got, "\n"))
		}
	}
}

// opens types a command in a new terminal, and waits until it has printed what the document shows.
func (p *person) opens(c command) error {
	o := &terminal{t: p.t, text: c.text, command: p.bash("-c", c.text), out: &output{grown: make(chan struct{}, 1)}}
	o.command.Stdout, o.command.Stderr, o.command.WaitDelay = o.out, o.out, 10*time.Second
	p.start(o.command)
	p.terminals = append(p.terminals, o)
	late := time.After(patience)
	for {
		over := ended(o.command.Process.Pid)
		err := compare(c.output, strings.Split(strings.TrimRight(o.out.String(), "\n"), "\n"))
		if err == nil || over {
			return err
		}
		select {
		case <-o.out.grown:
		case <-time.After(100 * time.Millisecond):
		case <-late:
			return err
		}
	}
}

// interrupt presses Ctrl-C and waits for the command.
func (o *terminal) interrupt() {
	o.t.Helper()
	if err := syscall.Kill(-o.command.Process.Pid, syscall.SIGINT); err != nil {
		o.t.Error(err)
	}
	if err := o.command.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		o.t.Errorf("%s, after Ctrl-C: %v: %s", o.text, err, o.out)
	}
}
