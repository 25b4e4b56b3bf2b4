package guestinit

import (
	"fmt"
	"strconv"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/stages/output"
)

// serviceMemory is the default memory limit of a service. It leaves memory for PostgreSQL,
// Tailscale and sov-init.
const serviceMemory = "50%"

// service converts a recipe's service to the init's description. A service without directories may
// write in roots.
func service(s recipe.Service, roots []string) guestspec.Service {
	out := guestspec.Service{
		Name: s.Name, Command: s.Command, User: s.User, Group: s.Group, Dir: s.Directory, After: s.After,
		Ready:   guestspec.Ready{HTTP: s.Ready.HTTP, TCP: s.Ready.TCP, Unix: s.Ready.Unix, Command: s.Ready.Command, Timeout: guestspec.Duration(s.Ready.Timeout), Interval: guestspec.Duration(s.Ready.Interval)},
		Restart: guestspec.Restart{Policy: guestspec.RestartPolicy(s.Restart.Policy), Backoff: guestspec.Duration(s.Restart.Backoff)},
		Stop:    guestspec.Stop{Signal: s.Stop.Signal, Timeout: guestspec.Duration(s.Stop.Timeout)},

		OOMScoreAdj: *s.OOMScore,
		Rights:      guestspec.Rights{Capabilities: s.Capabilities, Devices: s.Devices},
		Limits:      guestspec.Limits{Memory: serviceMemory, Processes: s.Limits.Processes, CPU: s.Limits.CPU, Files: s.Limits.Files},
	}
	for name, size := range s.Limits.Rlimits {
		if out.Limits.Rlimits == nil {
			out.Limits.Rlimits = map[string]int64{}
		}
		out.Limits.Rlimits[name] = int64(size)
	}
	if s.Limits.Memory > 0 {
		out.Limits.Memory = strconv.FormatInt(int64(s.Limits.Memory), 10)
	}
	if s.Directories == nil {
		out.Rights.Write = roots
	}
	for name, v := range s.Environment {
		target, value := &out.Env, v.Text
		if v.Secret != "" {
			target, value = &out.SecretEnv, v.Secret
		}
		if *target == nil {
			*target = map[string]string{}
		}
		(*target)[name] = value
	}
	for _, f := range s.Secrets {
		out.Secrets = append(out.Secrets, guestspec.SecretFile{Secret: f.Name, Path: f.File, Mode: fmt.Sprintf("%04o", f.Mode), User: f.Owner})
	}
	for _, d := range s.Directories {
		out.Directories = append(out.Directories, guestspec.Directory{Path: d.Path, Mode: fmt.Sprintf("%04o", d.Mode), User: d.Owner, Group: d.Group})
	}
	out.Prepare, out.PostReady = steps(s.Prepare), steps(s.PostReady)
	out.Schedule, out.LogSize = s.Schedule, int64(s.Log.Size)
	if a := s.Alive; a != nil {
		out.Alive = &guestspec.Alive{Failures: a.Failures, Ready: guestspec.Ready{HTTP: a.HTTP, TCP: a.TCP, Unix: a.Unix, Command: a.Command,
			Timeout: guestspec.Duration(a.Timeout), Interval: guestspec.Duration(a.Interval)}}
	}
	if b := s.Backup; b != nil {
		out.Backup = &guestspec.Backup{Command: b.Command, Restore: b.Restore, Paths: b.Paths}
	}
	return out
}

func steps(list []recipe.Step) (out []guestspec.Step) {
	for _, s := range list {
		out = append(out, guestspec.Step{Command: s.Command, User: s.User})
	}
	return out
}

// EncodeService returns the file of a service after the init's own validation. It does not check
// the names in After: other stages may add those services.
func EncodeService(s guestspec.Service, volumes []guestspec.Volume) ([]byte, error) {
	alone := s
	alone.After = nil
	c := guestspec.Config{Format: guestspec.Format, Hostname: "check", Volumes: volumes, Services: []guestspec.Service{alone}}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return output.JSON(s)
}
