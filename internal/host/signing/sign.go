package signing

import (
	"context"
	"fmt"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/built"
)

// An UnsoundError is an artifact that is not what its manifest or its provenance says, and was not
// signed.
type UnsoundError struct {
	Dir     string
	Problem finding.Finding // the first
}

func (e *UnsoundError) Error() string {
	return fmt.Sprintf("not signed: %s is not sound: %v", e.Dir, e.Problem)
}

// Sign signs the artifact in dir after it was checked, and reports whether that changed anything.
// The error is an *UnsoundError if the check found something.
func Sign(ctx context.Context, dir string, key dsse.PrivateKey) (changed bool, err error) {
	problems, err := manifest.Verify(ctx, dir)
	if err != nil {
		return false, built.NotBuilt(err)
	}
	verdict, err := provenance.Verify(dir, nil)
	if err != nil {
		return false, err
	}
	for _, p := range append(problems, verdict.Problems...) {
		if p.Check != artifact.SignedFile { // it is about to be replaced
			return false, &UnsoundError{Dir: dir, Problem: p}
		}
	}
	return provenance.Sign(dir, key)
}
