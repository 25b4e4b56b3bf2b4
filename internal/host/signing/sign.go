package signing

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/built"
)

// An UnsoundError is returned for an artifact that does not match its manifest or its provenance
// and was not signed.
type UnsoundError struct {
	Dir     string
	Problem finding.Finding // the first
}

func (e *UnsoundError) Error() string {
	return fmt.Sprintf("not signed: %s is not sound: %v", e.Dir, e.Problem)
}

// A Signer signs versions of machines with a key, each with a serial.
type Signer struct {
	Key dsse.PrivateKey
	// Serials stores the highest serials that were signed and accepted on this computer.
	Serials serials.Memory
	// Serial is the version's serial; 0: one more than the highest known, unless the artifact is
	// signed already.
	Serial int64
	// Reference is where the version will be published: HOST/REPOSITORY:TAG. Empty: it is not
	// signed for a registry.
	Reference string
	// Repository is the part of Reference that identifies a series of serials.
	Repository string
	// Known is the highest serial known from elsewhere, such as the registry.
	Known int64
}

// For sets the reference to sign for.
func (s *Signer) For(ref name.Reference) {
	s.Reference, s.Repository = ref.Name(), ref.Context().Name()
}

// Check checks the artifact in dir before it is signed. The error is an *UnsoundError if a check
// failed.
func Check(ctx context.Context, dir string) error {
	problems, err := manifest.Verify(ctx, dir)
	if err != nil {
		return built.NotBuilt(err)
	}
	verdict, err := provenance.Verify(dir, nil)
	if err != nil {
		return err
	}
	for _, p := range append(problems, verdict.Problems...) {
		if p.Check != artifact.SignedFile { // the signature will be replaced
			return &UnsoundError{Dir: dir, Problem: p}
		}
	}
	return nil
}

// Sign signs artifacts of one machine, one for each architecture, with one serial, and returns that
// and whether a signature changed. The artifacts must have been checked. Modules beside them get
// the signatures too. The serial is stored before it is used.
func (s *Signer) Sign(ctx context.Context, dirs ...string) (serial int64, changed bool, err error) {
	m, err := manifest.Load(dirs[0])
	if err != nil {
		return 0, false, built.NotBuilt(err)
	}
	id := s.Key.Public().ID()
	lines := []serials.Line{{Of: m.Name, Key: id}}
	if s.Repository != "" {
		lines = append(lines, serials.Line{Of: s.Repository, Key: id})
	}
	highest, err := s.Serials.Highest(lines...)
	if err != nil {
		return 0, false, err
	}
	highest = max(highest, s.Known)
	switch serial = s.Serial; {
	case serial == 0:
		if serial = s.already(dirs); serial < max(highest, 1) {
			serial = highest + 1
		}
	case serial < highest:
		return 0, false, fmt.Errorf("sign %s: the serial %d is lower than %d, the highest that key %.16s… has signed: choose a higher one",
			dirs[0], serial, highest, id)
	}
	if err := s.Serials.Note(serial, lines...); err != nil {
		return 0, false, err
	}
	for _, dir := range dirs {
		fresh, err := provenance.Sign(dir, s.Key, provenance.Release{Name: m.Name, Reference: s.Reference, Serial: serial})
		if err == nil {
			err = SignModule(ctx, dir, m.Name)
		}
		if err != nil {
			return 0, false, err
		}
		changed = changed || fresh
	}
	return serial, changed, nil
}

// already returns the serial with which this key has signed all the artifacts for the reference, or
// 0.
func (s *Signer) already(dirs []string) int64 {
	var all []int64
	for _, dir := range dirs {
		signed, err := provenance.ReadSigned(dir)
		if err != nil || signed == nil || signed.By.ID() != s.Key.Public().ID() || signed.Reference != s.Reference {
			return 0
		}
		verdict, err := provenance.Verify(dir, s.Key.Public())
		if err != nil || !verdict.Proven {
			return 0
		}
		all = append(all, signed.Serial)
	}
	if len(slices.Compact(all)) != 1 {
		return 0
	}
	return all[0]
}
