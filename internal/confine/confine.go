// Package confine runs a compiler on untrusted sources, whose Makefiles are programs. The compiler
// has no network, no access to other processes, no privileges, and cannot gain any. Its file system
// has only the computer's programs and libraries, the inputs, and the output folders.
//
// It uses Linux namespaces. If the system does not allow them, Check returns the reason and Run
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
	Dir  string // working directory: a folder in Write or Read, or below one

	Stdin          io.Reader // nil: /dev/null
	Stdout, Stderr io.Writer

	// Write are folders that the program can write, at the same paths. If sov runs as root, it
	// changes their owner to the user nobody. Files in them should belong to that user or be
	// readable by all.
	Write []string
	// Read are files and folders that the program can read, at the same paths, in addition to the
	// system's.
	Read []string
	// Temporary is a folder that is mounted writable at /tmp. "": the program has no /tmp.
	Temporary string

	// Plain runs the program unconfined with sov's privileges, for systems where Check fails.
	Plain bool
}

// Run runs the program and waits for its end. If ctx ends, it kills the program and all its
// descendants. An error of the program is an *exec.ExitError, as in package os/exec.
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

// patience is the timeout for the output of a killed program.
const patience = 10 * time.Second

// ReadOutput reads a regular file of at most limit bytes that an untrusted program has left below a
// folder. It rejects a link out of the folder and a pipe.
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

// WriteInput writes a file to a folder that a program could write. It replaces a link instead of
// following it.
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

// ErrUnsupported is wrapped by errors of systems that do not allow confinement.
var ErrUnsupported = errors.New("this system does not let sov confine a compiler")
