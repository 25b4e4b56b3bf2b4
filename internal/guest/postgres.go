//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
)

func preparePostgres(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	p := cluster.Preparation{Output: stderr}
	flags := newFlags("postgres-prepare", stderr)
	flags.StringVar(&p.Data, "data", "", "the data `directory`")
	flags.StringVar(&p.Bin, "bin", "", "the `directory` of postgres and initdb")
	flags.StringVar(&p.User, "user", "", "the `user` to whom the cluster belongs")
	flags.StringVar(&p.Starts, "starts", cluster.StartsFile, "the `file` in memory that counts the server's starts")
	flags.StringVar(&p.OldBin, "old-bin", "", "the `directory` of the programs of an older major version")
	if err := parse(flags, args, "old-bin"); err != nil {
		return err
	}
	p.InitArgs = flags.Args()
	return p.Run(ctx)
}

func ensureAccount(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	var a cluster.Account
	flags := newFlags("postgres-account", stderr)
	socket := flags.String("socket", "", "the `path` of the server's socket")
	flags.StringVar(&a.Role, "role", "", "the `role` that may log in")
	flags.StringVar(&a.Database, "database", "", "the `name` of its database")
	flags.BoolVar(&a.Superuser, "superuser", false, "the role may do everything")
	if err := parse(flags, args); err != nil {
		return err
	}
	did, err := a.Ensure(ctx, *socket)
	for _, line := range did {
		fmt.Fprintln(stderr, line)
	}
	return err
}

func setPassword(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	flags := newFlags("postgres-role", stderr)
	socket := flags.String("socket", "", "the `path` of the server's socket")
	role := flags.String("role", "", "the `role` to change")
	if err := parse(flags, args); err != nil {
		return err
	}
	password, err := io.ReadAll(io.LimitReader(stdin, guestspec.MaxSecret)) // no secret is longer
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	changed, err := cluster.SetPassword(ctx, *socket, *role, string(password))
	if changed {
		fmt.Fprintf(stderr, "the password of role %s was set\n", *role)
	}
	return err
}

// settlePostgres is the last step after the server's start. Its failure, for example because the
// disk is full, does not prevent the server from becoming ready.
func settlePostgres(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	var s cluster.Settings
	flags := newFlags("postgres-settled", stderr)
	socket := flags.String("socket", "", "the `path` of the server's socket")
	flags.StringVar(&s.Data, "data", "", "the data `directory`")
	flags.StringVar(&s.Starts, "starts", cluster.StartsFile, "the `file` in memory that counts the server's starts")
	if err := parse(flags, args); err != nil {
		return err
	}
	dropped, err := cluster.DropLeftovers(ctx, *socket)
	if len(dropped) > 0 {
		fmt.Fprintf(stderr, "dropped the rest of an interrupted restore: %q\n", dropped)
	}
	if err := errors.Join(err, s.Settled(stderr)); err != nil {
		fmt.Fprintln(stderr, "WARNING:", err)
	}
	return nil
}

// servePostgres is the step postgres-serve: this process becomes the server.
func servePostgres(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	flags := newFlags("postgres-serve", stderr)
	data := flags.String("data", "", "the data `directory`")
	bin := flags.String("bin", "", "the `directory` of the server's programs")
	old := flags.String("old-bin", "", "the `directory` of the programs of an older major version")
	if err := parse(flags, args); err != nil {
		return err
	}
	of, err := cluster.BinOf(ctx, *data, *bin, *old)
	if err != nil {
		return err
	}
	program := filepath.Join(of, "postgres")
	return fmt.Errorf("start %s: %w", program, unix.Exec(program, append([]string{program}, flags.Args()...), os.Environ()))
}

// upgradePostgres is the step postgres-upgrade.
func upgradePostgres(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	events := make(chan backup.Event)
	u := cluster.Upgrade{Output: stderr, Report: func(text string) { events <- backup.Event{Progress: text} }}
	flags := newFlags(guestspec.StepUpgrade, stderr)
	do := flags.String("do", "", "what to do: upgrade, checksums or forget")
	flags.StringVar(&u.Data, "data", "", "the data `directory`")
	flags.StringVar(&u.Bin, "bin", "", "the `directory` of the server's programs")
	flags.StringVar(&u.OldBin, "old-bin", "", "the `directory` of the programs of an older major version")
	flags.StringVar(&u.User, "user", "", "the `user` to whom the cluster belongs")
	flags.StringVar(&u.Config, "config", "", "the server's configuration `file`")
	flags.StringVar(&u.Sockets, "sockets", "", "the `directory` of the server's sockets")
	if err := parse(flags, args, "old-bin"); err != nil {
		return err
	}
	work := map[string]func(context.Context) (*backup.Upgraded, error){
		guestspec.DoUpgrade:   u.Run,
		guestspec.DoChecksums: u.EnableChecksums,
		guestspec.DoForget: func(context.Context) (*backup.Upgraded, error) {
			removed, err := cluster.Forget(u.Data)
			return &backup.Upgraded{Removed: removed}, err
		},
	}[*do]
	if work == nil {
		fmt.Fprintf(stderr, "%s: --do=%s is not known\n", flags.Name(), *do)
		return errUsage
	}
	signal.Ignore(unix.SIGPIPE) // the client may have disconnected: continue to the end
	go func() {
		if did, err := work(ctx); err != nil {
			events <- backup.Event{Fault: err.Error()}
		} else {
			events <- backup.Event{Upgraded: did}
		}
		close(events)
	}()
	return writeEvents(events, os.Stdout)
}

// backUp is the step postgres-backup.
func backUp(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	s, err := serverOf("postgres-backup", args, stderr)
	if err != nil {
		return err
	}
	return s.Backup(ctx, os.Stdout)
}

// restore is the step postgres-restore.
func restore(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	s, err := serverOf("postgres-restore", args, stderr)
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGPIPE) // the client may have disconnected: a started restore is still undone
	events := make(chan backup.Event)
	go func() {
		did, err := s.Restore(ctx, stdin, func(text string) { events <- backup.Event{Progress: text} })
		if err != nil {
			events <- backup.Event{Fault: err.Error()}
		} else {
			events <- backup.Event{Done: did}
		}
		close(events)
	}()
	return writeEvents(events, os.Stdout)
}

// writeEvents writes events, and an empty one after a time without events.
func writeEvents(events <-chan backup.Event, w io.Writer) error {
	const quiet = 5 * time.Second
	out := json.NewEncoder(w)
	var failed error // a write error: the restore still continues to its end
	for {
		var e backup.Event
		select {
		case next, more := <-events:
			if !more {
				return failed
			}
			e = next
		case <-time.After(quiet):
		}
		if err := out.Encode(e); err != nil {
			failed = err
		}
	}
}

func serverOf(step string, args []string, stderr io.Writer) (cluster.Server, error) {
	var s cluster.Server
	flags := newFlags(step, stderr)
	flags.StringVar(&s.Socket, "socket", "", "the `path` of the server's socket")
	return s, parse(flags, args)
}
