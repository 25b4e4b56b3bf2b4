package receive

import (
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/trust"
)

// A version is what is to be installed.
type version struct {
	*installed.Artifact
	signature      []byte // provenance.dsse.json; nil: it is not signed
	allowDowngrade bool
}

// admit asks whether the phone takes the version, and returns what its signature says; nil: it has
// none.
func (v version) admit(vm phonepath.VM) (*provenance.Signed, error) {
	return trust.Of(vm.Root()).Admit(v.Artifact, v.signature, v.allowDowngrade)
}

// keepSignature writes the signature beside the version's files, after its serial was noted: a
// version that can start is one whose serial is known. It asks once more whether the phone takes
// the version: a key may have been added meanwhile.
func (v version) keepSignature(vm phonepath.VM, dir string) error {
	signed, err := v.admit(vm)
	if err != nil || signed == nil {
		return err
	}
	if err := trust.Of(vm.Root()).Remember(signed); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, artifact.SignedFile), v.signature, 0o644)
}
