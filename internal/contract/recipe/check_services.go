package recipe

import (
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

func (c *checker) services() {
	known := map[string]bool{guestspec.ServicePostgres: c.Postgres.Enabled, guestspec.ServiceTailscale: c.Tailscale.Enabled, guestspec.ServicePooler: c.Postgres.Pooled()}
	for i, s := range c.Services {
		at := strictyaml.Index("services", i)
		c.require(!known[s.Name], at+".name", "there is another service %q", s.Name)
		known[s.Name] = true
		c.service(at, s)
		c.backup(at, i)
	}
	for i, s := range c.Services {
		for j, name := range s.After {
			c.require(known[name], strictyaml.Index(strictyaml.Index("services", i)+".after", j), "there is no service %q", name)
		}
	}
	if loop := c.cycle(); loop != nil {
		c.doc.Faultf("services", "%s wait for each other in a circle", strings.Join(loop, ", "))
	}
}

func (c *checker) service(at string, s Service) {
	c.require(guestspec.ValidServiceName(s.Name), at+".name",
		"%q is not the name of a service; use 1 to 32 lower-case letters, digits and hyphens, the first a letter or a digit", s.Name)
	c.require(s.Name != "init" && s.Name != "kernel", at+".name", "%q is what the log calls the guest's own messages", s.Name)
	ofImage := s.Command.OfImage() // then WithImage adds what is missing
	c.require(ofImage || len(s.Command) > 0 && path.IsAbs(s.Command[0]), at+".command", "must begin with the absolute path of a program")
	c.require(ofImage && s.Directory == "" || path.IsAbs(s.Directory), at+".directory", "%q is not an absolute path", s.Directory)
	for name := range s.Environment {
		c.require(name != "" && !strings.ContainsAny(name, "=\x00"), at+".environment", "%q is not a variable name", name)
	}
	c.serviceSecrets(at, s)
	c.life(at, s)
	c.require(slices.Contains([]string{"always", "on-failure", "never"}, s.Restart.Policy) || ofImage && s.Restart.Policy == "", at+".restart.policy", "%q must be always, on-failure or never", s.Restart.Policy)
	c.require(slices.Contains(stopSignals, s.Stop.Signal) || ofImage && s.Stop.Signal == "", at+".stop.signal", "%q is none of %s", s.Stop.Signal, strings.Join(stopSignals, ", "))
	for i, d := range s.Directories {
		at := strictyaml.Index(at+".directories", i)
		c.require(cleanAbsolute(d.Path), at+".path", "%q is not a clean absolute path", d.Path)
		c.require(c.outlives(d.Path) || strings.HasPrefix(d.Path, "/run/"), at+".path",
			"%q is not below /data or on a volume, which outlive a restart, or below /run, which does not", d.Path)
		for _, own := range []string{guestspec.CertificateDir, guestspec.RestoreDir} {
			c.require(!below(d.Path, path.Join(guestspec.DataPath, own)), at+".path", "%q is the guest's own: use another name", d.Path)
		}
	}
	for i, name := range s.Capabilities {
		_, known := guestspec.Capability(name)
		c.require(known, strictyaml.Index(at+".capabilities", i), "%q is not a capability; write it as capabilities(7) does, in lower case and without CAP_: net_bind_service", name)
	}
	for i, name := range s.Devices {
		c.require(cleanAbsolute(name) && strings.HasPrefix(name, guestspec.DeviceDir+"/"), strictyaml.Index(at+".devices", i), "%q is not a path in /dev", name)
	}
	l := s.Limits
	c.require(l.Memory == 0 || l.Memory >= MiB, at+".limits.memory", "%s is less than 1MiB", l.Memory)
	c.require(l.Processes >= 1, at+".limits.processes", "%d is less than 1", l.Processes)
	c.require(l.CPU >= 0, at+".limits.cpu", "%d is negative", l.CPU)
	c.require(l.Files >= 0, at+".limits.files", "%d is negative", l.Files)
	c.require(*s.OOMScore >= -1000 && *s.OOMScore <= 1000, at+".oom_score_adj", "%d is not between -1000 and 1000", *s.OOMScore)
}

var stopSignals = []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"}

// cycle returns services that wait for each other, or nil: those that remain after repeatedly
// removing all services that do not wait for a remaining one.
func (c *checker) cycle() []string {
	left := map[string][]string{}
	for _, s := range c.Services {
		left[s.Name] = s.After
	}
	for {
		free := ""
		for name, after := range left {
			if !slices.ContainsFunc(after, func(a string) bool { _, waits := left[a]; return waits }) {
				free = name
				break
			}
		}
		if free == "" {
			break
		}
		delete(left, free)
	}
	var names []string
	for _, s := range c.Services {
		if _, ok := left[s.Name]; ok {
			names = append(names, s.Name)
		}
	}
	return names
}
