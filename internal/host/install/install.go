// Package install puts a machine on a phone with everything that it needs there: it looks at the
// phone, sends sov-runner, the secrets and the artifact, and says what is running. Package
// preflight decides what a phone lacks, package push sends, and package fleet runs sov-runner.
package install

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/preflight"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/host/secrets"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// A Machine is what phones are given.
type Machine struct {
	Artifact *push.Artifact
	Secrets  map[string][]byte // none: the phone's stay as they are
	Runner   push.Runner
	// MakePassword makes and keeps a secret. It is called for the password of the superuser and of
	// each role of the recipe, if the machine offers PostgreSQL, and for secrets that the recipe
	// has generated, if neither Secrets nor the phone has it; concurrently, if there are several
	// phones. Nil: no secret is made or looked for.
	MakePassword func(secret string) ([]byte, error)
	// Other returns a secret of another machine that is kept here; nil where there is none. The
	// phone's own is taken then.
	Other func(machine, secret string) ([]byte, error)
	// MakeDataKey makes and keeps the key of an encrypted data disk that does not exist yet. Nil:
	// keys stay as they are.
	MakeDataKey func() ([]byte, error)
	// Serials remembers the highest serial of the signed versions that were pushed from here.
	Serials serials.Memory
	// AskTrust asks whether a phone is to take only versions that a key has signed. It is called at
	// the first push of a signed machine to a phone that trusts no key. Nil: the phone stays as it
	// is.
	AskTrust func(phone string, key dsse.PublicKey) (bool, error)
}

// A Report is what was done on one phone.
type Report struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Digest  string   `json:"digest"`                  // SHA-256 of its manifest.json
	Runner  bool     `json:"runner"`                  // sov-runner was another, or not there
	Before  string   `json:"runner_before,omitempty"` // which other: its release, or "a development build"
	Secrets []string `json:"secrets"`                 // that were new

	SignedBy string `json:"signed_by,omitempty"` // ID of the key that signed it; empty: it is not signed
	Serial   int64  `json:"serial,omitempty"`    // of that signature
	// Generated are the secrets that were made because there were none.
	Generated []string `json:"generated,omitempty"`
	Warnings  []string `json:"warnings,omitempty"` // on who can log in to the database
	*push.Result
	State json.RawMessage `json:"state,omitempty"` // of a machine that was started afterwards: what sov-runner says of it
}

// On installs the machine on one phone, or updates it there. Nothing is sent to a phone that cannot
// run it: then the error is a *fleet.FoundError that names everything that is missing.
func (m *Machine) On(ctx context.Context, s *fleet.Site, progress *Progress) (*Report, error) {
	report, err := m.install(ctx, s, progress)
	progress.end(ctx, err, report.Result)
	return report, err
}

func (m *Machine) install(ctx context.Context, s *fleet.Site, progress *Progress) (*Report, error) {
	about := m.Artifact.Manifest
	report := &Report{Name: about.Name, Version: about.Version, Digest: m.Artifact.Digest, Secrets: []string{}}
	if signed := m.Artifact.Signed; signed != nil {
		report.SignedBy, report.Serial = signed.By.ID(), signed.Serial
	}
	if err := m.forward(); err != nil {
		return report, err
	}
	progress.step("look at the phone")
	first, err := m.check(ctx, s)
	if err != nil {
		return report, err
	}
	if !first {
		if err := m.checkPostgres(ctx, s); err != nil {
			return report, err
		}
	}
	if report.Warnings, err = m.warnings(ctx, s, first); err != nil {
		return report, err
	}
	progress.step("send sov-runner")
	replaced, err := push.EnsureRunner(ctx, s, m.Runner)
	if err != nil {
		return report, err
	}
	report.Runner, report.Before = replaced.Changed, replaced.Before
	progress.step("send secrets")
	toSend, err := m.secrets(ctx, s, report)
	if err == nil {
		toSend, err = m.withDataKey(ctx, s, toSend)
	}
	if err != nil {
		return report, err
	}
	changed, err := push.SendSecrets(ctx, s, report.Name, toSend)
	if err != nil {
		return report, fmt.Errorf("send secrets: %w", err)
	}
	report.Secrets = append(report.Secrets, changed...)
	if first {
		if err := m.trust(ctx, s); err != nil {
			return report, err
		}
	}
	report.Result, err = push.Send(ctx, s, m.Artifact, progress.content)
	if err == nil {
		err = m.remember()
	}
	return report, found(err)
}

// secrets returns what is sent to the phone: the machine's secrets and those that it needs besides.
func (m *Machine) secrets(ctx context.Context, s *fleet.Site, report *Report) (all map[string][]byte, err error) {
	if m.MakePassword == nil {
		return m.Secrets, nil
	}
	needs := m.Artifact.Spec.Secrets
	if m.offersPostgres() {
		for _, login := range m.Artifact.Spec.Logins() {
			needs = append(slices.Clip(needs), vmspec.Secret{Name: login.Secret, Generate: true})
		}
	}
	all, report.Generated, err = secrets.Places{
		Has:  func(name string) (bool, error) { return push.HasSecret(ctx, s, report.Name, name) },
		Make: m.MakePassword,
		Other: func(machine, name string) ([]byte, error) {
			value, err := m.Other(machine, name)
			if err != nil || value != nil {
				return value, err
			}
			return push.ReadSecret(ctx, s, machine, name)
		},
	}.Complete(report.Name, needs, m.Secrets)
	return all, err
}

func (m *Machine) offersPostgres() bool {
	_, offered := m.Artifact.Spec.Port(guestspec.ServicePostgres)
	return offered
}

// check looks at the phone and complains of everything that is missing at once. first is that no
// version of the machine is installed there.
func (m *Machine) check(ctx context.Context, s *fleet.Site) (first bool, err error) {
	need := preflight.Need{Arch: m.Artifact.Manifest.Arch, Name: m.Artifact.Manifest.Name, AVF: m.Artifact.Spec.Options}
	places, err := s.Root().VM(m.Artifact.Manifest.Name)
	if err != nil {
		return false, err
	}
	// How much an update takes is the phone's to say, before anything of it is sent: it may give up
	// its older version.
	if err := s.Run(ctx, device.Command{Args: []string{"test", "-e", places.Current()}}); err != nil {
		first = true
		need.Space = m.Artifact.Size()
	}
	findings, err := preflight.Check(ctx, s, need)
	if err != nil {
		return first, err
	}
	var lines []string
	for _, f := range finding.Failures(findings) {
		lines = append(lines, terminal.Harmless(fmt.Sprintf("  %s: %s: %s", f.Check, f.Found, f.Advice)))
	}
	if len(lines) == 0 {
		return first, nil
	}
	return first, &fleet.FoundError{What: fmt.Sprintf("%s cannot run it yet, nothing was sent:\n%s", s.Name(), strings.Join(lines, "\n"))}
}

// Status asks a phone how a machine is.
func Status(ctx context.Context, s *fleet.Site, name string) (*health.Machine, error) {
	text, err := s.Ask(ctx, device.DefaultLimit, "status", name)
	if err != nil {
		return nil, err
	}
	now := &health.Machine{}
	if err := json.Unmarshal(text, now); err != nil {
		return nil, fmt.Errorf("%s: the status of %s: %w", s.Name(), name, err)
	}
	return now, nil
}

// BootVerb returns the verb with which sov-runner makes a machine run the version in a slot. It is
// empty for a machine that does not run, if only one that runs is to be restarted.
func BootVerb(now *health.Machine, slot string, onlyRestart bool) string {
	switch {
	case now.CrosvmAlive && now.Slot != slot:
		return "restart"
	case !now.CrosvmAlive && onlyRestart:
		return ""
	}
	return "up"
}
