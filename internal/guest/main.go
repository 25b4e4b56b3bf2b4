//go:build linux

package guest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/boot"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
	"github.com/sovereign-sql/sov/internal/guest/machinebackup"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

const usage = `sov-init is PID 1 of a sovereign-sql guest. By hand it only runs the steps around services' starts:

  sov-init postgres-prepare --data=DIR --bin=DIR --user=USER [--old-bin=DIR] [-- INITDB-ARGUMENT...]
  sov-init postgres-serve --data=DIR --bin=DIR --old-bin=DIR -- ARGUMENT...   (becomes the server of the cluster's version)
  sov-init postgres-upgrade --do=upgrade|checksums|forget --data=DIR --bin=DIR --user=USER --config=FILE --sockets=DIR [--old-bin=DIR]
                                                     (what it does, as JSON, to standard output)
  sov-init postgres-account --socket=PATH --role=ROLE --database=NAME [--superuser]
  sov-init postgres-collations --data=DIR --bin=DIR --user=USER --config=PATH --image=TEXT [--old-bin=DIR]
  sov-init postgres-extension --socket=PATH --database=NAME --name=EXTENSION [--schema=NAME] [--version=VERSION]
  sov-init postgres-pooler --socket=PATH --database=NAME --role=ROLE
  sov-init postgres-role --socket=PATH --role=ROLE   (the password on standard input)
  sov-init postgres-settled --socket=PATH --data=DIR
  sov-init postgres-single   (PostgreSQL's single-user mode: SQL on standard input)
  sov-init postgres-backup --socket=PATH   (a stream to standard output)
  sov-init postgres-restore --socket=PATH   (a stream on standard input; what it does, as JSON, to standard output)
  sov-init service-archive -- PATH...   (a tar to standard output)
  sov-init service-extract --to=DIR -- PATH...   (a tar on standard input; how many files have no longer their owner to standard output)
  sov-init tailscale-prepare --state=FILE   (the auth key on standard input)
  sov-init tailscale-up --socket=PATH --hostname=NAME [--state=FILE] [--login-server=URL] [--advertise-tags=TAG,...]   (the auth key on standard input)
`

// Main is the main function of sov-init: the init if it is PID 1, else the step that args name. It
// returns the exit status.
func Main(args []string, stdin io.Reader, stderr io.Writer) int {
	if os.Getpid() == 1 {
		boot.Run()
	}
	if args[0] == process.Confined {
		return process.Become(args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	steps := map[string]func(context.Context, []string, io.Reader, io.Writer) error{
		"postgres-prepare":    preparePostgres,
		"postgres-serve":      servePostgres,
		"postgres-settled":    settlePostgres,
		"postgres-single":     singleUser,
		"postgres-collations": fitCollations,
		"postgres-account":    ensureAccount,
		"postgres-role":       setPassword,
		"postgres-extension":  ensureExtension,
		"postgres-pooler":     ensurePooler,
		"postgres-backup":     backUp,
		"postgres-restore":    restore,
		"tailscale-up":        upTailscale,

		"tailscale-prepare":   prepareTailscale,
		guestspec.StepUpgrade: upgradePostgres,

		machinebackup.StepArchive: archive,
		machinebackup.StepExtract: extract,
	}
	var step func(context.Context, []string, io.Reader, io.Writer) error
	if len(args) > 1 {
		step = steps[args[1]]
	}
	if step == nil {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch err := step(ctx, args[2:], stdin, stderr); {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		fmt.Fprintln(stderr, err)
		if errors.Is(err, cluster.ErrPermanent) {
			return guestspec.ExitPermanent
		}
		return 1
	}
}

// errUsage is the error for a wrong command line. The details are already printed.
var errUsage = errors.New("wrong usage")

func newFlags(name string, stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("sov-init "+name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	return flags
}

// parse parses flags. All flags except the optional ones are required.
func parse(flags *flag.FlagSet, args []string, optional ...string) error {
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	missing := false
	flags.VisitAll(func(f *flag.Flag) {
		if f.Value.String() == "" && !slices.Contains(optional, f.Name) {
			fmt.Fprintf(flags.Output(), "%s: --%s is missing\n", flags.Name(), f.Name)
			missing = true
		}
	})
	if missing {
		return errUsage
	}
	return nil
}
