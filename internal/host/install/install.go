// Package install installs or updates a machine on a phone: it checks the phone (package
// preflight), sends sov-runner, the secrets and the artifact (package push), and reports what is
// running (package fleet).
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

// A Machine is a machine to install, with its secrets.
type Machine struct {
	Artifact *push.Artifact
	Secrets  map[string][]byte // empty: the phone's are not changed
	Runner   push.Runner
	// MakePassword generates and stores a secret. It is called for the password of the superuser
	// and of each role of the recipe, if the machine has PostgreSQL, and for the recipe's generated
	// secrets, if neither Secrets nor the phone has it; concurrently, if there are several phones.
	// Nil: no secrets are generated or checked.
	MakePassword func(secret string) ([]byte, error)
	// Other returns a stored secret of another machine; nil if there is none, and then that of the
	// phone is used.
	Other func(machine, secret string) ([]byte, error)
	// MakeDataKey generates and stores the key of an encrypted data disk that does not exist yet.
	// Nil: no keys are generated.
	MakeDataKey func() ([]byte, error)
	// Serials stores the highest serial of the signed versions that were pushed from here.
	Serials serials.Memory
	// AskTrust asks the user whether a phone should accept only versions signed by a key. It is
	// called at the first push of a signed machine to a phone that trusts no key. Nil: the phone is
	// not changed.
	AskTrust func(phone string, key dsse.PublicKey) (bool, error)
}

// A Report describes the installation on one phone.
type Report struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Digest  string   `json:"digest"`                  // SHA-256 of its manifest.json
	Runner  bool     `json:"runner"`                  // sov-runner was installed or replaced
	Before  string   `json:"runner_before,omitempty"` // the replaced one: its release, or "a development build"
	Secrets []string `json:"secrets"`                 // names of those that were new or changed

	SignedBy string `json:"signed_by,omitempty"` // ID of the key that signed it; empty: it is not signed
	Serial   int64  `json:"serial,omitempty"`    // of that signature
	// Generated are the secrets that were generated.
	Generated []string `json:"generated,omitempty"`
	Warnings  []string `json:"warnings,omitempty"` // about access to the database
	*push.Result
	State json.RawMessage `json:"state,omitempty"` // sov-runner's status of the machine, if it was started afterwards
}

// On installs or updates the machine on one phone. If the phone cannot run it, nothing is sent and
// the error is a *fleet.FoundError with all problems.
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

// secrets returns the secrets to send to the phone: those of the machine and others that it needs.
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

// check checks the phone and returns all problems in one error. first is that no version of the
// machine is installed there.
func (m *Machine) check(ctx context.Context, s *fleet.Site) (first bool, err error) {
	need := preflight.Need{Arch: m.Artifact.Manifest.Arch, Name: m.Artifact.Manifest.Name, AVF: m.Artifact.Spec.Options}
	places, err := s.Root().VM(m.Artifact.Manifest.Name)
	if err != nil {
		return false, err
	}
	// For an update, the phone itself checks the space before anything is sent: it may remove its
	// older version.
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

// Status requests the status of a machine on a phone.
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

// BootVerb returns the verb of sov-runner that makes a machine run the version in a slot. It is
// empty if the machine does not run and onlyRestart is set.
func BootVerb(now *health.Machine, slot string, onlyRestart bool) string {
	switch {
	case now.CrosvmAlive && now.Slot != slot:
		return "restart"
	case !now.CrosvmAlive && onlyRestart:
		return ""
	}
	return "up"
}
