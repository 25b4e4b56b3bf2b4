package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// whereSessions is the help of shell and exec about the selected machine and the connection.
const whereSessions = `The machine is the one of this name that 'sov run' runs on this computer, otherwise the one on the
phone. --local and --device choose explicitly. The connection goes through the cable or ssh, and
through sov-runner to the guest's endpoint, which requires this boot's token. The guest's journal
records the user, the command and the exit status, but not the input
('sov logs NAME --service init').

If the recipe has 'shell: false' under vm, the image has no shells and commands.`

func newShell() *cobra.Command {
	var f sessionFlags
	c := &cobra.Command{
		Use:   "shell NAME",
		Short: "Open a shell in the guest",
		Long: `Open a shell in the guest, as root, with this terminal's keys, size and colours. The shell ends with
'exit' or when the connection ends, together with all processes that it has started.

` + whereSessions + `

Exit status: that of the shell.`,
		Example:           "  sov shell sql\n  sov shell sql --user postgres",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: machines,
		RunE: func(c *cobra.Command, args []string) error {
			return f.run(c, args[0], session.Start{User: f.user})
		},
	}
	f.add(c)
	return c
}

func newExec() *cobra.Command {
	var f sessionFlags
	c := &cobra.Command{
		Use:   "exec NAME -- COMMAND [ARGUMENT...]",
		Short: "Run a command in the guest",
		Long: `Run a program with arguments in the guest, as root, without a shell. It uses the standard input,
output and error of sov. If input and output are a terminal, the program has a terminal too. The
program ends on Ctrl-C, or when the connection ends.

` + whereSessions + `

Exit status: that of the command; 126 or 127 if it cannot be started; 128 plus the signal's number
if a signal killed it.`,
		Example: `  sov exec sql -- df -h /data
  sov exec sql --user postgres -- psql -c 'select version()'
  sov exec sql -- sh -c 'cat >/tmp/notes' <notes`,
		Args: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() != 1 || len(args) < 2 {
				return usagef("the command follows --: type `%s NAME -- COMMAND` (see `%[1]s --help`)", c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: machines,
		RunE: func(c *cobra.Command, args []string) error {
			return f.run(c, args[0], session.Start{Command: args[1:], User: f.user})
		},
	}
	f.add(c)
	return c
}

// sessionFlags select the machine and the user of a session.
type sessionFlags struct {
	phoneFlags
	localFlags
	user string
}

func (f *sessionFlags) add(c *cobra.Command) {
	f.addDevice(c)
	f.localFlags.add(c)
	c.Flags().StringVarP(&f.user, "user", "u", session.DefaultUser, "user in the guest")
}

// run runs a session in a machine and exits with its status.
func (f *sessionFlags) run(c *cobra.Command, machine string, start session.Start) error {
	if err := f.check(c); err != nil {
		return err
	}
	name, _, err := built.Machine(machine)
	if err != nil {
		return err
	}
	if f.several() {
		return usagef("%s is for one machine: name one phone with --device", c.Name())
	}
	return f.open(c, name, func(ctx context.Context, open opener) error { return interact(ctx, c, open, start) })
}

// An opener runs a session in a machine's guest.
type opener func(context.Context, session.Start, session.Streams) (session.Exit, error)

// open calls use with an opener for the selected machine, on this computer or on a phone.
func (f *sessionFlags) open(c *cobra.Command, name string, use func(context.Context, opener) error) error {
	here, err := f.here(name)
	switch {
	case err != nil:
		return err
	case here != nil:
		return use(c.Context(), localSession(name, here.Guest()))
	}
	return f.each(c, func(ctx context.Context, s *fleet.Site) error {
		return use(ctx, func(ctx context.Context, start session.Start, streams session.Streams) (session.Exit, error) {
			return s.Session(ctx, name, start, streams)
		})
	})
}

// here returns the selected machine if it runs on this computer, or nil for a machine on a phone.
func (f *sessionFlags) here(name string) (*localvm.Running, error) {
	switch {
	case f.meant():
		return f.must(name)
	case len(f.devices) > 0:
		return nil, nil
	}
	return f.running(name)
}

// localSession returns an opener for a machine on this computer.
func localSession(name string, guest *guestapi.Client) opener {
	return func(ctx context.Context, start session.Start, streams session.Streams) (session.Exit, error) {
		conn, err := guest.Session(ctx)
		if errors.Is(err, guestapi.ErrNoSessions) {
			err = fmt.Errorf("%w: `sov build %s` builds one that has; then run that", err, name)
		}
		if err != nil {
			return session.Exit{}, fmt.Errorf("shell in %s: %w", name, err)
		}
		return session.Run(ctx, session.NewConn(conn, conn, conn.Close), start, streams)
	}
}

// interact runs a session with this program's standard streams, and on its terminal if it has one.
func interact(ctx context.Context, c *cobra.Command, open opener, start session.Start) error {
	start.Caller = caller()
	giveBack := func() error { return nil }
	// Programs in the guest control the terminal directly.
	streams := session.Streams{In: c.InOrStdin(), Out: terminal.Raw(c.OutOrStdout()), Errors: terminal.Raw(c.ErrOrStderr())}
	if t := terminal.Of(streams.In, streams.Out); t != nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		size := t.Size()
		start.Terminal, streams.Sizes = &size, t.Sizes(ctx)
		start.Env = withTerm(start.Env)
		lent, err := t.Lend()
		if err != nil {
			return err
		}
		giveBack = sync.OnceValue(lent)
		defer giveBack()
	}
	exit, err := open(ctx, start, streams)
	if err := errors.Join(err, giveBack()); err != nil {
		return err
	}
	if exit.Fault != "" {
		fmt.Fprintf(streams.Errors, "sov: %s: %s\n", c.Name(), terminal.Harmless(exit.Fault))
	}
	if exit.Status != 0 {
		return &statusError{exit.Status}
	}
	return nil
}

// withTerm returns env with the type of this program's terminal.
func withTerm(env map[string]string) map[string]string {
	with := map[string]string{"TERM": "vt100"}
	if kind := os.Getenv("TERM"); kind != "" {
		with["TERM"] = kind
	}
	maps.Copy(with, env)
	return with
}

// caller returns the user of this program, for the guest's journal.
func caller() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	text := name + "@" + host
	return text[:min(len(text), 200)]
}
