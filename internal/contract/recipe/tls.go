package recipe

import (
	"slices"
)

// TLS configures the database's certificate. A scalar is short for From.
type TLS struct {
	From string `yaml:"from"` // TLSOwn, TLSTailscale or TLSOff; empty: TLSOwn, unless Certificate or TLS settings are given
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
	// TLSTailscale is the certificate of a public authority for the node's name, which tailscaled
	// orders. Until there is one, TLSOwn.
	TLSTailscale = "tailscale"
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
		c.require(slices.Contains([]string{TLSOwn, TLSTailscale, TLSOff}, t.From), "postgres.tls", "%q must be %s, %s, %s, or a mapping of certificate and key", t.From, TLSOwn, TLSTailscale, TLSOff)
		if t.From == TLSTailscale {
			c.require(c.Tailscale.Enabled, "postgres.tls", "tailscale needs a node: set tailscale.enabled, or take own")
			c.require(!c.Tailscale.Ephemeral, "postgres.tls", "tailscale needs a node that stays, for a certificate is for its name: leave tailscale.ephemeral out, or take own")
		}
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

// TailnetCertificate reports whether the server uses the certificate that tailscaled orders.
func (p Postgres) TailnetCertificate() bool { return p.Enabled && p.TLS.From == TLSTailscale }

// tlsSecrets returns the database's secrets if it uses the user's certificate.
func (p Postgres) tlsSecrets() []string {
	return slices.DeleteFunc([]string{p.TLS.Certificate, p.TLS.Key}, func(name string) bool { return name == "" })
}
