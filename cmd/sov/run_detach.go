package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/host/systemd"
)

// command returns the command line for the flags. It works in any folder.
func (f *runFlags) command() ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := []string{program, "run"}
	for _, flag := range []struct {
		set         bool
		name, value string
	}{
		{f.Port != 0, "port", strconv.Itoa(int(f.Port))},
		{f.MemoryMiB != 0, "memory", strconv.Itoa(f.MemoryMiB)},
		{f.CPUs != 0, "cpus", strconv.Itoa(f.CPUs)},
		{f.KVM, "kvm", "true"},
		{f.tailnet, "tailnet", "true"},
		{f.egress, "egress", "true"},
		{f.format != "", "format", f.format},
	} {
		if flag.set {
			command = append(command, "--"+flag.name+"="+flag.value)
		}
	}
	for _, path := range []struct{ flag, value string }{{"--identity=", f.identity}, {"--state=", f.State}, {"", f.Artifact}} {
		if path.value == "" {
			continue
		}
		absolute, err := filepath.Abs(path.value)
		if err != nil {
			return nil, err
		}
		command = append(command, path.flag+absolute)
	}
	return command, nil
}

// detach runs the machine in background and returns when it is ready. A running machine is not
// changed.
func (f *runFlags) detach(c *cobra.Command, spec *vmspec.Spec) error {
	running, err := localvm.At(f.State)
	if err != nil {
		return err
	}
	if running != nil {
		fmt.Fprintf(c.ErrOrStderr(), "run: %s runs already, in process %d\n", running.Name, running.PID)
		return f.reportRunning(c, running)
	}
	if err := f.background(c); err != nil {
		return fmt.Errorf("run %s in background: %w", spec.Name, err)
	}
	if running, err = localvm.At(f.State); err != nil {
		return err
	}
	if running == nil {
		return fmt.Errorf("run %s in background: it was ready, and has ended: see %s", spec.Name, filepath.Join(f.State, localvm.LogName))
	}
	fmt.Fprintf(c.ErrOrStderr(), "run: it runs in background, in process %d; sov stop %s --local shuts it down\n", running.PID, spec.Name)
	return f.reportRunning(c, running)
}

// background starts the process that runs the machine and waits until the machine is ready. Ctrl-C
// shuts the machine down.
func (f *runFlags) background(c *cobra.Command) error {
	words, err := f.command()
	if err != nil {
		return err
	}
	path := filepath.Join(f.State, localvm.LogName)
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	service, err := systemd.Listen()
	if err != nil {
		return err
	}
	defer service.Close()
	command := exec.Command(words[0], words[1:]...)
	command.Dir = "/"
	command.Stdout, command.Stderr = log, log
	command.Env = append(os.Environ(), systemd.SocketVariable+"="+service.Socket())
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // this terminal's Ctrl-C and hangup do not reach it
	if err := command.Start(); err != nil {
		return err
	}
	ctx, ended := context.WithCancelCause(context.WithoutCancel(c.Context()))
	defer ended(nil)
	go func() { ended(exitOf(command.Wait())) }()
	stop := context.AfterFunc(c.Context(), func() { command.Process.Signal(syscall.SIGTERM) }) // its end ends ctx
	defer stop()
	err = service.Wait(ctx, func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) })
	if err == nil || c.Context().Err() != nil {
		return errors.Join(err, c.Context().Err())
	}
	lines, readErr := localvm.LastLines(path)
	if readErr == nil {
		fmt.Fprintf(c.ErrOrStderr(), "--- the last lines of %s\n%s\n---\n", path, lines)
	}
	return err
}

// exitOf returns the error of a process that ended too early.
func exitOf(err error) error {
	if err == nil {
		return errors.New("it has ended")
	}
	return fmt.Errorf("it has ended: %w", err)
}

// reportRunning prints the report of `sov run` for a running machine.
func (f *runFlags) reportRunning(c *cobra.Command, r *localvm.Running) error {
	report := runReport{URL: r.URL, PID: r.QEMU, Console: r.Console(), Network: r.Network, Published: r.Published}
	var err error
	if report.Status, err = r.Guest().Status(c.Context()); err != nil {
		return fmt.Errorf("%s runs on this computer and does not answer: %w: its console's log is %s", r.Name, err, report.Console)
	}
	if !report.Status.Ready {
		fmt.Fprintf(c.ErrOrStderr(), "run: not ready yet: %s\n", localvm.Unready(report.Status))
	}
	return printResult(c.OutOrStdout(), f.asJSON, report, report.addresses)
}

// unitReserve is added to sov's own timeouts for the timeouts of a service manager.
const unitReserve = 30 * time.Second

// printUnit prints a systemd unit that runs the machine with these flags.
func (f *runFlags) printUnit(c *cobra.Command, spec *vmspec.Spec) error {
	command, err := f.command()
	if err != nil {
		return err
	}
	u := systemd.Unit{
		Name: "sov-" + spec.Name, Description: "the machine " + spec.Name + " of sov", Command: command,
		Start: localvm.ReadyTimeout(spec, f.KVM) + unitReserve, Stop: stopBound + unitReserve,
	}
	for _, name := range []string{"PATH", "SOV_STATE_DIR", "SOV_CONFIG_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"} {
		if value := os.Getenv(name); value != "" {
			u.Environment = append(u.Environment, name+"="+value)
		}
	}
	_, err = fmt.Fprint(c.OutOrStdout(), u.Text())
	fmt.Fprintf(c.ErrOrStderr(), `run: put this into ~/.config/systemd/user/%[1]s, then
  systemctl --user daemon-reload
  systemctl --user enable --now %[2]s
  loginctl enable-linger              so that it also runs while you are not logged in
`, u.File(), u.Name)
	return err
}
