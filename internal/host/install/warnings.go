package install

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/secrets"
)

// warnings returns warnings about access to the machine's database: weak passwords, a recipe that
// allows the superuser from everywhere by default, and a version that no longer allows this
// although the installed one does.
func (m *Machine) warnings(ctx context.Context, s *fleet.Site, first bool) ([]string, error) {
	spec := m.Artifact.Spec
	if !m.offersPostgres() {
		return nil, nil
	}
	list := secrets.Weak(spec.Name, spec.Logins(), func(name string) (string, bool) {
		value, ok := m.Secrets[name]
		return string(value), ok
	})
	switch {
	case spec.SuperuserScope() == "":
		return append(list, "the superuser postgres logs in from every network that the recipe admits, a tailnet too: "+
			"write `superuser: host` under postgres in the recipe, and `roles: [{name: app}]` for clients, then build and push it again; "+
			"`superuser: anywhere` keeps it without this warning"), nil
	case first || spec.SuperuserScope() != vmspec.SuperuserFromHost:
		return list, nil
	}
	before, err := installedSpec(ctx, s, spec.Name)
	if err != nil {
		return list, err
	}
	if before != nil && before.SuperuserScope() != vmspec.SuperuserFromHost {
		as := "list one under postgres.roles in the recipe"
		if login, ok := spec.RemoteLogin(); ok {
			as = fmt.Sprintf("log in as %s, in the database %s, with the password that `sov secrets show %s %s` prints", login.Role, login.Database, spec.Name, login.Secret)
		}
		list = append(list, "from this version on the superuser postgres logs in from the host only; clients on a tailnet or another network need another role: "+
			as+". `superuser: anywhere` under postgres in the recipe keeps the rule of the version before")
	}
	return list, nil
}

// installedSpec returns vm.json of the current version on the phone; nil if an interrupted push
// left none, or one that this sov cannot read.
func installedSpec(ctx context.Context, s *fleet.Site, name string) (*vmspec.Spec, error) {
	places, err := s.Root().VM(name)
	if err != nil {
		return nil, err
	}
	text, err := device.ReadFile(ctx, s, path.Join(places.Current(), artifact.SpecFile))
	if errors.As(err, new(*device.ExitError)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		return nil, nil
	}
	return spec, nil
}
