package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/contract/trustapi"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// Trusted requests the trusted keys of a phone.
func Trusted(ctx context.Context, s *fleet.Site) (*trustapi.List, error) {
	text, err := s.Ask(ctx, device.DefaultLimit, "trust", "")
	if err != nil {
		return nil, err
	}
	l := &trustapi.List{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("%s: its trusted keys: %w", s.Name(), err)
	}
	return l, nil
}

// ChangeTrust adds a key to a phone's trusted keys, or removes one. A phone that trusts keys
// requires that one of them, by, signs the change; nil: it is not signed.
func ChangeTrust(ctx context.Context, s *fleet.Site, change trustapi.Change, by dsse.PrivateKey) error {
	now, err := Trusted(ctx, s)
	if err != nil {
		return err
	}
	if key, err := dsse.ParseDER(change.Add); err == nil && slices.Contains(now.Keys, key.ID()) {
		return nil
	}
	if len(now.Keys) > 0 && by == nil {
		return &fleet.FoundError{What: fmt.Sprintf("%s trusts key %.64s: a change must be signed with a key that the phone trusts (--sign); "+
			"without one, root removes %s in a terminal on the phone", s.Name(), terminal.Harmless(now.Keys[0]), s.Root().TrustedKeys())}
	}
	if len(now.Keys) == 0 {
		by = nil
	}
	change.Challenge = now.Challenge
	text, err := change.Encode(by)
	if err != nil {
		return err
	}
	return s.Runner(ctx, device.Command{Stdin: bytes.NewReader(text), Stdout: s.ErrOut, Limit: device.DefaultLimit}, "trust", "", "change")
}

// trust makes a phone trust the key that signed the machine if the user agrees. It asks at the
// first push of a machine to a phone that trusts no key.
func (m *Machine) trust(ctx context.Context, s *fleet.Site) error {
	signed := m.Artifact.Signed
	if m.AskTrust == nil || signed == nil {
		return nil
	}
	now, err := Trusted(ctx, s)
	if err != nil || len(now.Keys) > 0 {
		return err
	}
	yes, err := m.AskTrust(s.Name(), signed.By)
	if err != nil || !yes {
		return err
	}
	der, err := signed.By.DER()
	if err != nil {
		return err
	}
	return ChangeTrust(ctx, s, trustapi.Change{Add: der}, nil)
}

// forward rejects a signed version that is older than one that this computer has pushed or signed.
func (m *Machine) forward() error {
	signed := m.Artifact.Signed
	if signed == nil || m.Artifact.AllowDowngrade {
		return nil
	}
	err := m.Serials.Check(m.line(), signed.Serial)
	if lower := new(serials.LowerError); errors.As(err, &lower) {
		return &fleet.FoundError{What: err.Error()}
	}
	return err
}

// remember stores the serial of the installed version.
func (m *Machine) remember() error {
	if m.Artifact.Signed == nil {
		return nil
	}
	return m.Serials.Note(m.Artifact.Signed.Serial, m.line())
}

func (m *Machine) line() serials.Line {
	return serials.Line{Of: m.Artifact.Signed.Name, Key: m.Artifact.Signed.By.ID()}
}

// found turns a phone's rejection of an untrusted or older version into a *fleet.FoundError.
func found(err error) error {
	refusal := &pushapi.Refusal{}
	if errors.As(err, &refusal) && (refusal.Code == pushapi.CodeUntrusted || refusal.Code == pushapi.CodeDowngrade) {
		return &fleet.FoundError{What: err.Error()}
	}
	return err
}
