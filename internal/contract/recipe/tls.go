package recipe

import (
	"slices"
)

// TLS configures the database's certificate. A scalar is short for From.
type TLS struct {
	From string `yaml:"from"` // TLSOwn or TLSOff; empty: TLSOwn, unless Certificate or TLS settings are given
	// Certificate and Key name secrets: a certificate with its chain, and its key, in PEM.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Short implements strictyaml.Abbreviated.
func (t *TLS) Short() any { return &t.From }

// Words of TLS.From.
const (
	TLSOwn = "own" // signed by an authority that the machine generates at its first start
	TLSOff = "off" // connections are not encrypted
)

// completeTLS sets the defaults. A recipe with its own TLS settings keeps them.
func (p *Postgres) completeTLS() {
	if p.TLS.From != "" || p.TLS.Certificate != "" || p.TLS.Key != "" {
		return
	}
	p.TLS.From = TLSOwn
	for _, name := range tlsSettings {
		if _, own := p.Settings[name]; own {
			p.TLS.From = TLSOff
		}
	}
}

// tlsSettings are the parameters that configure TLS without postgres.tls.
var tlsSettings = []string{"ssl", "ssl_cert_file", "ssl_key_file"}

// tls checks postgres.tls.
func (c *checker) tls() {
	t := c.Postgres.TLS
	if t.Certificate == "" && t.Key == "" {
		c.require(t.From == TLSOwn || t.From == TLSOff, "postgres.tls", "%q must be %s, %s, or a mapping of certificate and key", t.From, TLSOwn, TLSOff)
	} else {
		c.require(t.From == "", "postgres.tls", "gives both from and a certificate: leave one out")
		c.require(t.Certificate != "" && t.Key != "", "postgres.tls", "lacks its certificate or its key: give both, by the names of secrets")
		for _, name := range []string{t.Certificate, t.Key} {
			if name != "" {
				c.usable("postgres.tls", name)
			}
		}
	}
	for _, name := range tlsSettings {
		_, set := c.Postgres.Settings[name]
		c.require(!set || t.From == TLSOff, "postgres.settings."+name, "is what postgres.tls decides: leave one of them out, or set postgres.tls to off")
	}
}

// Encrypted reports whether the build configures TLS.
func (p Postgres) Encrypted() bool { return p.TLS.From != TLSOff }

// tlsSecrets returns the database's secrets if it uses the user's certificate.
func (p Postgres) tlsSecrets() []string {
	return slices.DeleteFunc([]string{p.TLS.Certificate, p.TLS.Key}, func(name string) bool { return name == "" })
}
