// Package confine runs a compiler on untrusted sources, whose Makefiles are programs: without a
// network, without access to other processes, without privileges or a way to gain them, and with a
// file system of only the computer's programs and libraries, the inputs, and the folders for the
// output.
//
// It uses Linux namespaces. Where the system does not allow them, Check returns the reason and Run
// fails.
package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A Command is a program to run.
type Command struct {
	Path string   // absolute
	Args []string // without the program's name
	Env  []string
	Dir  string // where it runs: one of the folders below, or in one of them

	Stdin          io.Reader // nil: /dev/null
	Stdout, Stderr io.Writer

	// Write are folders that the program finds at the same paths and may write. When sov runs as
	// root they are given to the user nobody, and what is in them should belong to nobody or be
	// readable by all.
	Write []string
	// Read are files and folders that it finds at the same paths and may read, beside those of the
	// system.
	Read []string
	// Temporary is the folder that the program finds as /tmp, to write. "": it has none.
	Temporary string

	// Plain runs the program with sov's own rights, where Check has found that there is no other
	// way.
	Plain bool
}

// Run runs the program and waits for its end, or ends it and all that it has started when ctx ends.
// An error of the program is an *exec.ExitError, as package os/exec has it.
func (c Command) Run(ctx context.Context) error {
	if !c.Plain {
		return c.confined(ctx)
	}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = patience
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// patience is how long the output of a program that was ended may take.
const patience = 10 * time.Second

// ReadOutput reads a regular file of at most limit bytes that a program has left below a folder. A
// link that leads out of the folder, or a pipe, is refused: what is left there is the program's
// choice.
func ReadOutput(dir, name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("read %s: it is not a file of at most %d bytes", filepath.Join(dir, name), limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// WriteInput writes a file into a folder in which a program has been: over a link, not through it.
func WriteInput(dir, name string, content []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// ErrUnsupported is in the error of a system that does not allow what this package needs.
var ErrUnsupported = errors.New("this system does not let sov confine a compiler")
