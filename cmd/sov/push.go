package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/embedded"
	"github.com/sovereign-sql/sov/internal/host/preflight"
	"github.com/sovereign-sql/sov/internal/host/push"
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
	up        upFlags
}

func newPush() *cobra.Command {
	var f pushFlags
	c := &cobra.Command{
		Use:   "push RECIPE|DIR",
		Short: "Install or update a built machine on a phone, sending only what changed",
		Long: `Install a built machine on a phone, or update it there. The phone is looked at first, and everything that is missing is
named at once. Then it gets sov-runner, the secrets that are kept for the machine (see sov secrets), and the machine: only
what neither of the two versions that it may have already holds is sent. The new version goes into the slot that is not
current, is verified there, byte for byte, and becomes current in one step; it is what the next start boots. The data disk
is never touched. A sov-runner of a newer release of sov than this one is not replaced unless with --replace-runner.

A push that is interrupted leaves the phone's version as it is; the next one goes on from there. A new version that does
not become ready is gone back from by itself, see sov status. sov rollback goes back by hand.`,
		Example: `  sov push sql                              install or update it; a machine that runs goes on running the old version
  sov push sql --restart                    and restart it if it runs
  sov push sql --start                      and start or restart it
  sov push out/sql/arm64 --device R58M12345 --device ssh:root@phone
  sov push sql --all --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE:              func(c *cobra.Command, args []string) error { return pushTo(c, args[0], f) },
	}
	f.add(c)
	flags := c.Flags()
	archFlag(c, &f.arch)
	flags.StringVarP(&f.out, "out", "o", "out", "folder that sov build wrote to")
	flags.BoolVar(&f.start, "start", false, "start the machine afterwards, or restart it if it runs another version")
	flags.BoolVar(&f.restart, "restart", false, "restart the machine afterwards if it runs another version")
	flags.BoolVar(&f.noSecrets, "no-secrets", false, "leave the phone's secrets as they are")
	flags.BoolVar(&f.goBack, "replace-runner", false, "replace the phone's sov-runner by this sov's also where it is of a newer release")
	f.up.add(c)
	identityFlag(c, &f.identity)
	return c
}

// pushReport is what `sov push --json` prints for a phone.
type pushReport struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Digest  string   `json:"digest"`                  // SHA-256 of its manifest.json
	Runner  bool     `json:"runner"`                  // sov-runner was another, or not there
	Before  string   `json:"runner_before,omitempty"` // which other: its release, or "a development build"
	Secrets []string `json:"secrets"`                 // that were new
	*push.Result
	State json.RawMessage `json:"state,omitempty"` // with --start and --restart: what sov start prints
}

// A pusher pushes one artifact to any number of phones.
type pusher struct {
	pushFlags
	artifact *push.Artifact
	secrets  map[string][]byte
	reporter progress.Reporter
}

func pushTo(c *cobra.Command, recipe string, f pushFlags) (err error) {
	if err := errors.Join(checkArch(f.arch), excludeEachOther(c, "start", "restart")); err != nil {
		return err
	}
	dir, err := artifactDir(recipe, f.out, f.arch)
	if err != nil {
		return err
	}
	p := &pusher{pushFlags: f}
	p.artifact, err = push.Open(c.Context(), dir, func(int64, int64) {})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: build it with `sov build %s`", err, recipe)
	}
	if err != nil {
		return err
	}
	if !f.noSecrets {
		store, err := openSecrets(f.identity)
		if err != nil {
			return err
		}
		if p.secrets, err = store.All(c.Context(), p.artifact.Manifest.Name); err != nil {
			return err
		}
	}
	if p.reporter, err = progress.NewReporter("auto", c.ErrOrStderr(), os.Getenv); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.reporter.Close()) }()
	return f.each(c, p.onPhone)
}

// onPhone pushes to one phone.
func (p *pusher) onPhone(ctx context.Context, s *site) (err error) {
	shown := newPushProgress(p.reporter, s.Name())
	report := &pushReport{Name: p.artifact.Manifest.Name, Version: p.artifact.Manifest.Version, Digest: p.artifact.Digest, Secrets: []string{}}
	err = p.install(ctx, s, report, shown)
	shown.end(ctx, err, report.Result)
	if err != nil {
		return err
	}
	if p.start || p.restart {
		if err := p.boot(ctx, s, report); err != nil {
			return err
		}
	}
	if s.asJSON {
		return printJSON(s.out, report)
	}
	return p.print(ctx, s, report)
}

func (p *pusher) install(ctx context.Context, s *site, report *pushReport, shown *pushProgress) (err error) {
	shown.step("look at the phone")
	if err := p.check(ctx, s); err != nil {
		return err
	}
	shown.step("send sov-runner")
	replaced, err := push.EnsureRunner(ctx, s, ownRunner(p.goBack))
	if err != nil {
		return err
	}
	report.Runner, report.Before = replaced.Changed, replaced.Before
	shown.step("send secrets")
	changed, err := push.SendSecrets(ctx, s, report.Name, p.secrets)
	if err != nil {
		return fmt.Errorf("send secrets: %w", err)
	}
	report.Secrets = append(report.Secrets, changed...)
	report.Result, err = push.Send(ctx, s, p.artifact, shown.content)
	return err
}

// ownRunner is the sov-runner that this program carries.
func ownRunner(goBack bool) push.Runner {
	return push.Runner{
		Program: func(arch string) ([]byte, error) { return embedded.Program("sov-runner", arch) },
		Release: version, GoBack: goBack,
	}
}

// check looks at the phone and complains of everything that is missing at once.
func (p *pusher) check(ctx context.Context, s *site) error {
	need := preflight.Need{Arch: p.artifact.Manifest.Arch}
	places, err := s.Root().VM(p.artifact.Manifest.Name)
	if err != nil {
		return err
	}
	// How much an update takes is the phone's to say, before anything of it is sent: it may give up its older version.
	if err := s.Run(ctx, device.Command{Args: []string{"test", "-e", places.Current()}}); err != nil {
		need.Space = p.artifact.Size()
	}
	findings, err := preflight.Check(ctx, s, need)
	if err != nil {
		return err
	}
	failed := preflight.Failed(findings)
	if len(failed) == 0 {
		return nil
	}
	var lines []string
	for _, f := range failed {
		lines = append(lines, fmt.Sprintf("  %s: %s: %s", f.Check, f.Found, f.Advice))
	}
	return &foundError{fmt.Sprintf("%s cannot run it yet, nothing was sent:\n%s", s.Name(), harmlessLines(lines))}
}

func harmlessLines(lines []string) string {
	for i := range lines {
		lines[i] = harmless(lines[i])
	}
	return strings.Join(lines, "\n")
}

// boot starts what was pushed, where it does not run already.
func (p *pusher) boot(ctx context.Context, s *site, report *pushReport) error {
	now, err := p.status(ctx, s)
	if err != nil {
		return err
	}
	verb := "up"
	switch {
	case now.CrosvmAlive && now.Slot != report.Slot:
		verb = "restart"
	case !now.CrosvmAlive && p.restart:
		return nil
	}
	limit := startLimit + stopLimit + p.up.timeout
	if !s.asJSON {
		return s.show(ctx, limit, verb, report.Name, p.up.args()...)
	}
	report.State, err = s.ask(ctx, limit, verb, report.Name, p.up.args()...)
	return err
}

func (p *pusher) status(ctx context.Context, s *site) (*runnerapi.Status, error) {
	text, err := s.ask(ctx, device.DefaultLimit, "status", p.artifact.Manifest.Name)
	if err != nil {
		return nil, err
	}
	now := &runnerapi.Status{}
	if err := json.Unmarshal(text, now); err != nil {
		return nil, fmt.Errorf("%s: the status of %s: %w", s.Name(), p.artifact.Manifest.Name, err)
	}
	return now, nil
}

// print says what was done, and what is left to do.
func (p *pusher) print(ctx context.Context, s *site, r *pushReport) error {
	var done []string
	switch {
	case r.Before != "":
		done = append(done, fmt.Sprintf("sov-runner of this sov (%s) in place of %s", version, r.Before))
	case r.Runner:
		done = append(done, "a new sov-runner")
	}
	if len(r.Secrets) > 0 {
		done = append(done, "secrets "+strings.Join(r.Secrets, ", "))
	}
	switch {
	case r.Unchanged:
		done = append(done, fmt.Sprintf("version %s (%.12s) is there already, whole, in slot %s", r.Version, r.Digest, r.Slot))
	default:
		text := fmt.Sprintf("version %s (%.12s) into slot %s", r.Version, r.Digest, r.Slot)
		if r.Resumed > 0 {
			text += fmt.Sprintf(", %s of it from an interrupted push", progress.FormatSize(r.Resumed))
		}
		done = append(done, text)
	}
	_, err := fmt.Fprintf(s.out, "%s: %s (%s sent for %s, %.1f s)\n", r.Name, strings.Join(done, "; "),
		progress.FormatSize(r.Sent), progress.FormatSize(r.Size), r.Seconds)
	if err != nil || p.start || p.restart {
		return err
	}
	now, err := p.status(ctx, s)
	switch {
	case err != nil:
		return err
	case !now.CrosvmAlive:
		_, err = fmt.Fprintf(s.out, "%s: `sov start %[1]s` starts it\n", r.Name)
	case now.Slot != r.Slot:
		_, err = fmt.Fprintf(s.out, "%s: version %s goes on running until `sov restart %[1]s`\n", r.Name, now.Version)
	case r.Runner || len(r.Secrets) > 0:
		_, err = fmt.Fprintf(s.out, "%s: what is new is taken at the next `sov restart %[1]s`\n", r.Name)
	}
	return err
}
