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

// A version is a version to install.
type version struct {
	*installed.Artifact
	signature      []byte // provenance.dsse.json; nil if it is not signed
	allowDowngrade bool
}

// admit checks whether the phone accepts the version, and returns its signed statement, or nil if
// it is not signed.
func (v version) admit(vm phonepath.VM) (*provenance.Signed, error) {
	return trust.Of(vm.Root()).Admit(v.Artifact, v.signature, v.allowDowngrade)
}

// keepSignature records the serial and then writes the signature to the version's folder, so that
// the serial of every version that can start is known. It calls admit again, because a key may have
// been added meanwhile.
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
