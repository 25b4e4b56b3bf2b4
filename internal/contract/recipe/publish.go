package recipe

import (
	"cmp"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A Publish is a published port of the guest. A number is short for that TCP port.
type Publish struct {
	Port     int    `yaml:"port"`      // of the guest
	Service  string `yaml:"service"`   // what listens there; empty: postgres at its port, else the recipe's only service
	Protocol string `yaml:"protocol"`  // "tcp" or "udp"; empty: tcp
	HostPort int    `yaml:"host_port"` // at the phone's own address, and at 127.0.0.1 of sov run; 0: the same, and a free one
}

// Short implements strictyaml.Abbreviated.
func (p *Publish) Short() any { return &p.Port }

// offered is the host's number of the port.
func (p Publish) offered() int { return cmp.Or(p.HostPort, p.Port) }

// completePublished fills in what published ports leave out.
func (r *Recipe) completePublished() {
	for i := range r.Network.Publish {
		p := &r.Network.Publish[i]
		setDefault(&p.Protocol, guestspec.TCP)
		switch {
		case r.Postgres.Enabled && p.Port == r.Postgres.Port && p.Protocol == guestspec.TCP:
			setDefault(&p.Service, guestspec.ServicePostgres)
		case !r.Postgres.Enabled && len(r.Services) == 1:
			setDefault(&p.Service, r.Services[0].Name)
		}
	}
}

// published checks network.publish and network.forward.
func (c *checker) published() {
	n := c.Network
	for i, p := range n.Publish {
		at := strictyaml.Index("network.publish", i)
		c.require(validPort(p.Port), at, "%d is not a port", p.Port)
		c.require(p.HostPort == 0 || validPort(p.HostPort), strictyaml.Join(at, "host_port"), "%d is not a port", p.HostPort)
		c.require(p.Protocol == guestspec.TCP || p.Protocol == guestspec.UDP, strictyaml.Join(at, "protocol"), "%q must be %s or %s", p.Protocol, guestspec.TCP, guestspec.UDP)
		c.require(c.publishes(p.Service), strictyaml.Join(at, "service"), "%q is not a service of this recipe", p.Service)
		for _, earlier := range n.Publish[:i] {
			if p.Protocol != earlier.Protocol {
				continue
			}
			c.require(p.Port != earlier.Port, at, "port %d is listed twice", p.Port)
			c.require(p.Port == earlier.Port || p.offered() != earlier.offered(), at, "port %d is listed twice", p.offered())
		}
	}
	for i, port := range n.Forward {
		at := strictyaml.Index("network.forward", i)
		c.require(slices.ContainsFunc(n.Publish, func(p Publish) bool { return p.Port == port }), at, "port %d is not one of network.publish", port)
		c.require(slices.Index(n.Forward, port) == i, at, "port %d is listed twice", port)
	}
}

// publishes reports whether a published port may be of a service.
func (c *checker) publishes(service string) bool {
	return service == "" || service == guestspec.ServicePostgres && c.Postgres.Enabled || service == guestspec.ServicePooler && c.Postgres.Pooled() ||
		slices.ContainsFunc(c.Services, func(s Service) bool { return s.Name == service })
}
