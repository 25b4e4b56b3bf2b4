package guestinit

import (
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/stages/output"
)

// service turns a recipe's service into what the init reads.
func service(s recipe.Service) guestspec.Service {
	out := guestspec.Service{
		Name: s.Name, Command: s.Command, User: s.User, Group: s.Group, Env: s.Environment, Dir: s.Directory, After: s.After,
		Ready:   guestspec.Ready{TCP: s.Ready.TCP, Unix: s.Ready.Unix, Command: s.Ready.Command, Timeout: guestspec.Duration(s.Ready.Timeout)},
		Restart: guestspec.Restart{Policy: guestspec.RestartPolicy(s.Restart.Policy), Backoff: guestspec.Duration(s.Restart.Backoff)},
		Stop:    guestspec.Stop{Signal: s.Stop.Signal, Timeout: guestspec.Duration(s.Stop.Timeout)},

		OOMScoreAdj: *s.OOMScore,
	}
	for _, command := range s.Prepare {
		out.Prepare = append(out.Prepare, guestspec.Step{Command: command})
	}
	return out
}

// EncodeService returns the file of a service, after the init's own check of
// everything but the names in After, which other stages may bring.
func EncodeService(s guestspec.Service) ([]byte, error) {
	alone := s
	alone.After = nil
	c := guestspec.Config{Format: guestspec.Format, Hostname: "check", Services: []guestspec.Service{alone}}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return output.JSON(s)
}
