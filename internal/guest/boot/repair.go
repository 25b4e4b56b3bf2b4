//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
)

// Repair implements endpoint.Machine. The caller has reserved the machine.
func (m *machine) Repair(ctx context.Context, what string) (done []string, err error) {
	if err := m.mounted(); err != nil {
		return nil, err
	}
	switch what {
	case guestapi.RepairSettings:
		return m.repairSettings(ctx)
	case guestapi.RepairForget:
		spec, err := m.postgres()
		if err != nil {
			return nil, err
		}
		removed, err := cluster.Settings{Data: dataDirectory(spec)}.Forget()
		for _, path := range removed {
			done = append(done, "removed "+path)
		}
		return done, err
	}
	return m.repairTailnet(ctx, what)
}

// postgres returns the description of PostgreSQL's service.
func (m *machine) postgres() (*guestspec.Service, error) {
	for i, s := range m.spec.Services {
		if s.Name == guestspec.ServicePostgres && dataDirectory(&s) != "" {
			return &m.spec.Services[i], nil
		}
	}
	return nil, errors.New("this machine has no PostgreSQL")
}

// repairSettings restarts the server without the settings of ALTER SYSTEM.
func (m *machine) repairSettings(ctx context.Context) (done []string, err error) {
	spec, err := m.postgres()
	if err != nil {
		return nil, err
	}
	if _, service := m.describedService(spec.Name, m.services()); service.State == guestapi.StateFailed {
		return nil, fmt.Errorf("the settings of ALTER SYSTEM are not the reason: %s", service.Describe())
	}
	settings := cluster.Settings{Data: dataDirectory(spec), Starts: cluster.StartsFile}
	before, err := settings.Aside()
	if err != nil {
		return nil, err
	}
	if err := m.whilePaused(ctx, spec.Name, settings.Ask); err != nil {
		return nil, err
	}
	err = m.awaitService(ctx, spec.Name)
	after, asideErr := settings.Aside()
	if err := errors.Join(err, asideErr); err != nil {
		return nil, err
	}
	if len(after) <= len(before) {
		return []string{"PostgreSQL was restarted and is ready; there are no settings of ALTER SYSTEM to put aside"}, nil
	}
	return []string{fmt.Sprintf("PostgreSQL is ready without settings of ALTER SYSTEM: %s", after[len(after)-1])}, nil
}

// whilePaused calls do while a service is stopped.
func (m *machine) whilePaused(ctx context.Context, service string, do func() error) error {
	resume, err := m.supervisor.Pause(ctx, service)
	if err != nil {
		return err
	}
	defer resume()
	return do()
}

// awaitService waits until a service is ready. After a timeout the error has the service's state.
func (m *machine) awaitService(ctx context.Context, name string) error {
	err := m.supervisor.Await(ctx, name)
	if err == nil {
		return nil
	}
	_, service := m.describedService(name, m.services())
	return fmt.Errorf("%s: %w", service.Describe(), err)
}

func (m *machine) services() []guestapi.Service {
	services, _ := m.supervisor.Status()
	return services
}

// repairTailnet performs a repair of the machine's node.
func (m *machine) repairTailnet(ctx context.Context, what string) (done []string, err error) {
	spec := m.tailscale()
	if spec == nil || tailnetState(spec) == "" {
		return nil, errors.New("this machine keeps no node of a tailnet")
	}
	if _, service := m.describedService(spec.Name, m.services()); service.State == guestapi.StateOff {
		return nil, fmt.Errorf("tailscaled is off: %s", service.Reason)
	}
	state := tailnetState(spec)
	switch what {
	case guestapi.RepairTailnetSame:
		if err := m.whilePaused(ctx, spec.Name, func() error { return tailnet.TakeOver(state) }); err != nil {
			return nil, err
		}
		return []string{"the machine is the node again that it was on the other phone: that one must not run any more"}, m.awaitService(ctx, spec.Name)
	case guestapi.RepairTailnetNew:
		if m.authKey() == "" {
			return nil, errors.New("there is no auth key: set the secret tailscale and restart the machine")
		}
		joined, err := tailnet.NewClient(spec.Ready.Unix).Joined(ctx)
		if err != nil {
			return nil, err
		}
		if joined {
			var kept string
			err := m.whilePaused(ctx, spec.Name, func() (err error) {
				kept, err = tailnet.BecomeNew(state)
				return err
			})
			if err != nil {
				return nil, err
			}
			return []string{"the machine joins its tailnet as a new node; the state of the node that it was is kept as " + kept +
				": unless another machine is that node, remove it in the tailnet's admin console"}, m.awaitService(ctx, spec.Name)
		}
		if err := tailnet.AllowNew(state); err != nil {
			return nil, err
		}
		return []string{"the machine joins its tailnet as a new node: remove the old one in the tailnet's admin console"}, m.supervisor.Repeat(ctx, spec.Name)
	}
	if err := tailnet.NewClient(spec.Ready.Unix).LogOut(ctx); err != nil {
		return nil, err
	}
	return []string{"the node is logged out of its tailnet"}, nil
}
