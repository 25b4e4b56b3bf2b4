package install

import (
	"os"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/host/authority"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/folders"
)

// authorities returns the store of certificate authorities of this computer.
func authorities() (authority.Store, error) {
	state, err := folders.State(os.Getenv)
	return authority.In(state), err
}

// DatabaseClient returns how clients connect to the database of a machine on a phone, from its
// status. The error is an *authority.ChangedError if the machine's certificate authority has
// changed, unless accept is set.
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

// ForgetAuthority removes the stored certificate authority of a machine whose data disk was
// removed.
func ForgetAuthority(p device.Phone, name string) error {
	store, err := authorities()
	if err != nil {
		return err
	}
	return store.Forget(p.Name(), name)
}
