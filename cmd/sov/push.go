package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/embedded"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/group"
	"github.com/sovereign-sql/sov/internal/host/install"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// pushFlags are the flags of `sov push`.
type pushFlags struct {
	phoneFlags
	arch      string
	out       string
	identity  string
	noSecrets bool
	start     bool
	restart   bool
	goBack    bool
	downgrade bool
	up        upFlags
}

func newPush() *cobra.Command {
	var f pushFlags
	c := &cobra.Command{
		Use:   "push NAME|RECIPE|DIR",
		Short: "Install or update a built machine on a phone, sending only what changed",
		Long: `Install a built machine on a phone, or update it there. sov first checks the phone and lists all
problems at once. Then it sends sov-runner, the machine's secrets (see sov secrets) and the machine;
parts that the phone already has are not sent again. Passwords of the superuser and of the recipe's
roles are generated if they are not set.

The new version is written to the slot that is not current, verified there byte for byte, and made
current in one step. The next start uses it. The data disk is not changed. A sov-runner of a newer
release than this sov is replaced only with --replace-runner.

An interrupted push does not change the current version, and the next push resumes it. A new version
that does not become ready is rolled back automatically (see sov status). sov rollback rolls back by
hand.

A signed machine (sov sign) is sent with its signature. It is refused with exit status 3 if this
computer or the phone has seen a higher serial of the same machine and key; --allow-downgrade
installs it anyway. On the first push to a phone without trusted keys, sov asks at a terminal
whether the phone should trust only this key from now on, as with sov phone trust.

For a group file, the machines are installed one after the other. With --start, each is installed
when the machines of its 'after' are ready.`,
		Example: `  sov push sql                              install or update it; a running machine keeps running the old version
  sov push sql --restart                    and restart it if it runs
  sov push sql --start                      and start or restart it
  sov push out/sql/arm64 --device R58M12345 --device ssh:root@phone
  sov push sql --all --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			g, err := group.Load(args[0])
			if err != nil {
				return err
			}
			if g != nil {
				return pushGroup(c, g, f)
			}
			todo, err := pushTo(c, args[0], f)
			if err == nil {
				next(c, f.asJSON, append([]string{"sov", todo.verb, todo.machine}, f.again()...)...)
			}
			return err
		},
	}
	f.add(c)
	flags := c.Flags()
	archFlag(c, &f.arch)
	flags.StringVarP(&f.out, "out", "o", "out", "folder that sov build wrote to")
	flags.BoolVar(&f.start, "start", false, "start the machine afterwards, or restart it if it runs another version")
	flags.BoolVar(&f.restart, "restart", false, "restart the machine afterwards if it runs another version")
	flags.BoolVar(&f.downgrade, "allow-downgrade", false, "install a signed version even if its serial is lower than an earlier one")
	flags.BoolVar(&f.noSecrets, "no-secrets", false, "do not change the phone's secrets")
	flags.BoolVar(&f.goBack, "replace-runner", false, "replace the phone's sov-runner even if it is of a newer release")
	f.up.add(c)
	identityFlag(c, &f.identity)
	return c
}

// A followUp is the command that comes after a push: start, restart or test a machine.
type followUp struct{ verb, machine string }

func pushTo(c *cobra.Command, recipe string, f pushFlags) (todo followUp, err error) {
	if err := f.check(c); err != nil {
		return todo, err
	}
	dir, err := built.Dir(recipe, f.out, f.arch)
	if err != nil {
		return todo, err
	}
	return pushDir(c, dir, recipe, f)
}

func (f *pushFlags) check(c *cobra.Command) error {
	return errors.Join(checkArch(f.arch), excludeEachOther(c, [2]string{"start", "restart"}))
}

// pushDir installs the machine in a folder that `sov build` wrote.
func pushDir(c *cobra.Command, dir, recipe string, f pushFlags) (todo followUp, err error) {
	m := &install.Machine{}
	err = working(c, "read "+dir, func(ctx context.Context, task *pipeline.Task) (err error) {
		m.Artifact, err = push.Open(ctx, dir, task.Set)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return todo, notBuilt(dir, recipe, f.arch)
	}
	if err != nil {
		return todo, err
	}
	name := m.Artifact.Manifest.Name
	todo = followUp{"test", name}
	m.Artifact.AllowDowngrade = f.downgrade
	if m.Serials, err = serialMemory(); err != nil {
		return todo, err
	}
	if in, ok := c.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) && !f.several() && !f.asJSON {
		m.AskTrust = func(phone string, key dsse.PublicKey) (bool, error) { return askTrust(c, in, phone, key) }
	}
	if !f.noSecrets {
		store, err := openSecrets(f.identity)
		if err != nil {
			return todo, err
		}
		if m.Secrets, err = store.All(c.Context(), name); err != nil {
			return todo, err
		}
		m.MakePassword = store.Generator(name, func(secret, path string) { // one for all phones
			fmt.Fprintf(c.ErrOrStderr(), "push: %s had no secret %s: a password was generated, it is kept in %s; `sov secrets show %[1]s %[2]s` prints it\n", name, secret, path)
		})
		m.Other = store.Other(c.Context())
		m.MakeDataKey = sync.OnceValues(func() ([]byte, error) { // one for all phones
			key, path, err := store.MakeDataKey(name)
			if err == nil {
				sayDataKey(c.ErrOrStderr(), "push", name, path)
			}
			return key, err
		})
	}
	var several sync.Mutex
	err = withReporter(c, "auto", func(reporter progress.Reporter) error {
		m.Runner = ownRunner(reporter, f.goBack)
		return f.each(c, func(ctx context.Context, s *fleet.Site) error {
			report, err := m.On(ctx, s, install.NewProgress(reporter, s.Name(), time.Now))
			if err == nil && (f.start || f.restart) {
				err = f.boot(ctx, s, report)
			}
			if err != nil {
				return err
			}
			if s.AsJSON {
				return printJSON(s.Out, report)
			}
			verb, err := f.printPushed(ctx, s, report)
			several.Lock()
			defer several.Unlock()
			if todo.verb != "start" && verb != "" { // start comes first if one phone needs it
				todo.verb = verb
			}
			return err
		})
	})
	return todo, err
}

// ownRunner returns the sov-runner of this sov.
func ownRunner(reporter progress.Reporter, goBack bool) push.Runner {
	return push.Runner{
		Program: func(ctx context.Context, arch string) ([]byte, error) {
			return embedded.Source{CacheDir: cacheDir, Reporter: reporter}.Program(ctx, artifact.RunnerFile, arch)
		},
		Release: version, GoBack: goBack,
	}
}

// boot starts the pushed machine unless it runs already.
func (f *pushFlags) boot(ctx context.Context, s *fleet.Site, r *install.Report) error {
	now, err := install.Status(ctx, s, r.Name)
	if err != nil {
		return err
	}
	verb := install.BootVerb(now, r.Slot, f.restart)
	if verb == "" {
		return nil
	}
	limit := startLimit + stopLimit + f.up.timeout
	s, args, err := withDataKey(ctx, s, f.identity, r.Name, f.up.args())
	if err != nil {
		return err
	}
	if !s.AsJSON {
		return show(ctx, s, limit, verb, r.Name, args...)
	}
	r.State, err = s.Ask(ctx, limit, verb, r.Name, args...)
	return err
}

// printPushed prints the report of a push, and returns the command that comes next, or "".
func (f *pushFlags) printPushed(ctx context.Context, s *fleet.Site, r *install.Report) (string, error) {
	p := &printer{w: s.Out}
	p.printf("%s: %s (%s sent for %s, %.1f s)\n", r.Name, done(r), progress.FormatSize(r.Sent), progress.FormatSize(r.Size), r.Seconds)
	for _, warning := range r.Warnings {
		p.printf("%s: warning: %s\n", r.Name, warning)
	}
	if p.err != nil || f.start || f.restart {
		return "", p.err
	}
	now, err := install.Status(ctx, s, r.Name)
	if err != nil {
		return "", err
	}
	for _, warning := range now.Network.Warnings {
		p.printf("%s: warning: %s\n", r.Name, warning)
	}
	verb := ""
	switch {
	case !now.CrosvmAlive:
		verb = "start"
		p.printf("%s: it does not run: `sov start %[1]s` starts it\n", r.Name)
	case now.Slot != r.Slot:
		verb = "restart"
		p.printf("%s: version %s keeps running until `sov restart %[1]s`\n", r.Name, now.Version)
	case r.Runner || len(r.Secrets) > 0:
		verb = "restart"
		p.printf("%s: the changes take effect at the next `sov restart %[1]s`\n", r.Name)
	}
	return verb, p.err
}

// done lists the changes of a push.
func done(r *install.Report) string {
	var list []string
	switch {
	case r.Before != "":
		list = append(list, fmt.Sprintf("sov-runner of this sov (%s) in place of %s", version, r.Before))
	case r.Runner:
		list = append(list, "a new sov-runner")
	}
	if len(r.Secrets) > 0 {
		list = append(list, "secrets "+strings.Join(r.Secrets, ", "))
	}
	text := fmt.Sprintf("version %s (%.12s) into slot %s", r.Version, r.Digest, r.Slot)
	switch {
	case r.Unchanged:
		text = fmt.Sprintf("version %s (%.12s) is there already, whole, in slot %s", r.Version, r.Digest, r.Slot)
	case r.Resumed > 0:
		text += fmt.Sprintf(", %s of it from an interrupted push", progress.FormatSize(r.Resumed))
	}
	if r.SignedBy != "" {
		text += fmt.Sprintf(", signed by key %.16s…, serial %d", r.SignedBy, r.Serial)
	}
	return strings.Join(append(list, text), "; ")
}
