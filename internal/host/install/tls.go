package install

import (
	"os"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/host/authority"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/folders"
)

// authorities is the store of this computer.
func authorities() (authority.Store, error) {
	state, err := folders.State(os.Getenv)
	return authority.In(state), err
}

// DatabaseClient says how clients connect to the database of a machine on a phone, by what the
// phone answered of it. The error is an *authority.ChangedError for a machine that shows another
// certificate authority than before, unless accept is set.
func DatabaseClient(p device.Phone, now *health.Machine, accept bool) (authority.Client, error) {
	store, err := authorities()
	if err != nil {
		return authority.Client{}, err
	}
	if now.Database == nil { // the guest does not answer
		return store.Known(p.Name(), now.Name), nil
	}
	if public := now.Database.Public; public != nil && public.Name != "" {
		return store.CheckPublic(p.Name(), now.Name, public, accept)
	}
	client, err := store.Check(p.Name(), now.Name, now.Database.Authority, accept)
	client.Encrypt = now.Certificate != nil
	return client, err
}

// ForgetAuthority forgets a machine whose data disk is gone.
func ForgetAuthority(p device.Phone, name string) error {
	store, err := authorities()
	if err != nil {
		return err
	}
	return store.Forget(p.Name(), name)
}
