package secrets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// Places are the sources of the secrets of machines.
type Places struct {
	// Has reports whether the machine already has a secret, which then stays unchanged.
	Has func(name string) (bool, error)
	// Other returns a secret of another machine; nil if there is none.
	Other func(machine, name string) ([]byte, error)
	// Make generates and stores a secret.
	Make func(name string) ([]byte, error)
}

// Complete returns the stored secrets of a machine together with those that it also needs: secrets
// of other machines, and generated ones. The error names all missing ones and the commands that set
// them.
func (p Places) Complete(machine string, needs []vmspec.Secret, kept map[string][]byte) (all map[string][]byte, made []string, err error) {
	all = maps.Clone(kept)
	if all == nil {
		all = map[string][]byte{}
	}
	var missing []error
	for _, need := range needs {
		if _, ok := all[need.Name]; ok {
			continue
		}
		if need.From != "" { // before Has: the other machine's secret may have changed
			from, name, _ := strings.Cut(need.From, "/")
			value, err := p.Other(from, name)
			if err != nil {
				return nil, made, err
			}
			if value != nil {
				all[need.Name] = value
				continue
			}
		}
		has, err := p.Has(need.Name)
		switch {
		case err != nil:
			return nil, made, err
		case has:
		case need.Generate:
			if all[need.Name], err = p.Make(need.Name); err != nil {
				return nil, made, fmt.Errorf("generate secret %s of %s: %w", need.Name, machine, err)
			}
			made = append(made, need.Name)
		default:
			missing = append(missing, lacks(machine, need))
		}
	}
	return all, made, errors.Join(missing...)
}

// lacks returns the error of a missing secret, with the command that sets it.
func lacks(machine string, need vmspec.Secret) error {
	from, name, shared := strings.Cut(need.From, "/")
	if !shared {
		return fmt.Errorf("%s needs the secret %s, which is not set: type `sov secrets set %[1]s %[2]s`", machine, need.Name)
	}
	return fmt.Errorf("%s needs the secret %s, which is %s of %s and is not set there: push %[4]s first, or type `sov secrets set %[4]s %[3]s` (`sov secrets generate` for a role's password)",
		machine, need.Name, name, from)
}

// Other returns a function that returns a stored secret of another machine; nil if there is none.
func (s *Store) Other(ctx context.Context) func(machine, name string) ([]byte, error) {
	return func(machine, name string) ([]byte, error) {
		value, err := s.Get(ctx, machine, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return value, err
	}
}
