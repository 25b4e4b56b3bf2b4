package recipe

import (
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A Pooler shares few sessions of the server among many clients. A scalar is short for Program.
type Pooler struct {
	Program string `yaml:"program"` // PgBouncer; empty: none
	Mode    string `yaml:"mode"`    // "session", "transaction" or "statement": after which a session may serve another client
	Size    int    `yaml:"size"`    // sessions of the server for each role and database
	Clients int    `yaml:"clients"` // connections of clients
	Port    int    `yaml:"port"`
}

// Short implements strictyaml.Abbreviated.
func (p *Pooler) Short() any { return &p.Program }

// PgBouncer is the pooler, its service, its package, its user and its role in the database.
const PgBouncer = guestspec.ServicePooler

// pgBouncerID is the id of the user and its group, not used by Alpine's packages.
const pgBouncerID = 6432

// completePooler fills in the pooler's defaults, and adds what the machine needs for it.
func (r *Recipe) completePooler() {
	p := &r.Postgres.Pooler
	if p.Program != PgBouncer || !r.Postgres.Enabled {
		return
	}
	setDefault(&p.Mode, "transaction")
	setDefault(&p.Size, 10)
	setDefault(&p.Clients, 200)
	setDefault(&p.Port, 6432)
	if len(r.Packages.Repositories) > 0 {
		r.Packages.require([]string{PgBouncer})
		r.Packages.Scripts = append(r.Packages.Scripts, PgBouncer) // the recipe creates the user instead
	}
	if !slices.ContainsFunc(r.Users, func(u User) bool { return u.Name == PgBouncer }) {
		r.Users = append(r.Users, User{Name: PgBouncer, UID: pgBouncerID, GID: pgBouncerID})
	}
	for i := range r.Network.Publish {
		if r.Network.Publish[i].Port == p.Port {
			setDefault(&r.Network.Publish[i].Service, PgBouncer)
			return
		}
	}
	if slices.ContainsFunc(r.Network.Publish, func(o Publish) bool { return o.Port == r.Postgres.Port }) {
		r.Network.Publish = append(r.Network.Publish, Publish{Port: p.Port, Service: PgBouncer})
	}
}

// Pooled reports whether the recipe has a pooler.
func (p Postgres) Pooled() bool { return p.Enabled && p.Pooler.Program != "" }

// pooler checks postgres.pooler.
func (c *checker) pooler() {
	p := c.Postgres.Pooler
	if p == (Pooler{}) {
		return
	}
	const at = "postgres.pooler"
	if p.Program != PgBouncer {
		c.doc.Faultf(at, "%q must be %s", p.Program, PgBouncer)
		return
	}
	c.require(slices.Contains([]string{"session", "transaction", "statement"}, p.Mode), at+".mode", "%q must be session, transaction or statement", p.Mode)
	c.require(p.Size >= 1 && p.Size <= 1000, at+".size", "%d must be 1 to 1000 sessions", p.Size)
	c.require(p.Clients >= 1 && p.Clients <= 3000, at+".clients", "%d must be 1 to 3000 connections", p.Clients)
	c.require(validPort(p.Port) && p.Port != c.Postgres.Port, at+".port", "%d is not a free port", p.Port)
	for _, role := range c.Postgres.Roles {
		c.require(role.Name != PgBouncer, at, "uses the role %s itself: rename the role in postgres.roles", PgBouncer)
	}
}
