package postgres

import (
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/stages/guestinit"
)

// choose returns the server that the machine runs, of those found in the image. Two major versions
// are an error, unless one is that of postgres.upgrade_from: the choice would be arbitrary, but the
// databases work with only one of them.
func choose(found []*Server, p recipe.Postgres) (*Server, error) {
	// The walk is in the order of names, so that the choice between equal versions is always the
	// same.
	server := slices.MaxFunc(found, func(a, b *Server) int { return a.Major - b.Major })
	if p.Major != 0 && server.Major != p.Major {
		return nil, fmt.Errorf("postgres.major is %d, and the machine has PostgreSQL %s in %s: name the packages of %d in packages.install, or correct the key",
			p.Major, server.Version, server.Dir, p.Major)
	}
	for _, other := range found {
		switch other.Major {
		case server.Major:
		case p.UpgradeFrom:
			server.Old = other
		default:
			return nil, fmt.Errorf("the machine has PostgreSQL %s in %s and %s in %s: which packages bring them, `sov lock RECIPE --why postgresql%d` says; "+
				"leave one out, or pin the other by postgres.major", server.Version, server.Dir, other.Version, other.Dir, other.Major)
		}
	}
	if p.UpgradeFrom != 0 && server.Old == nil {
		return nil, fmt.Errorf("postgres.upgrade_from is %d, and the machine has PostgreSQL %s alone", p.UpgradeFrom, server.Version)
	}
	return server, nil
}

// command returns the command that starts the server with the settings. With two servers it starts
// the one of the cluster's version.
func (s *Server) command(data string, values map[string]string) []string {
	args := append([]string{"-D", data, "-c", "config_file=" + configFile}, fixedArguments(values)...)
	if s.Old == nil {
		return append([]string{s.Dir + "/postgres"}, args...)
	}
	return append([]string{guestinit.ProgramPath, "postgres-serve", "--data=" + data, "--bin=" + s.Dir, "--old-bin=" + s.Old.Dir, "--"}, args...)
}

// upgrade returns the command of the step that upgrades a cluster, see guestspec.Service.
func (s *Server) upgrade(p recipe.Postgres) []string {
	step := []string{guestinit.ProgramPath, guestspec.StepUpgrade, "--user=" + p.User, "--data=" + p.Data, "--bin=" + s.Dir,
		"--config=" + configFile, "--sockets=" + socketDir}
	if s.Old != nil {
		step = append(step, "--old-bin="+s.Old.Dir)
	}
	return step
}

// Majors returns the major versions that the machine has, in order.
func (s *Server) Majors() []int {
	if s.Old != nil {
		return []int{s.Old.Major, s.Major}
	}
	return []int{s.Major}
}
