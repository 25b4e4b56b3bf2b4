package recipe

import (
	"net/url"
	"regexp"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// tagForm is Tailscale's own rule for tags.
var tagForm = regexp.MustCompile(`^tag:[a-zA-Z][a-zA-Z0-9-]{0,49}$`)

func (c *checker) tailscale() {
	t := c.Tailscale
	// A host name that follows from another key has been judged there.
	c.require(t.Hostname == c.Network.Hostname || guestspec.ValidHostname(t.Hostname), "tailscale.hostname",
		"%q is not a host name: letters, digits and hyphens, at most 63", t.Hostname)
	if t.LoginServer != "" {
		u, err := url.Parse(t.LoginServer)
		c.require(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "",
			"tailscale.login_server", "is not the URL of a server, such as https://headscale.example.com, without a user name or a query")
	}
	for i, tag := range t.Tags {
		at := strictyaml.Index("tailscale.tags", i)
		c.require(tagForm.MatchString(tag), at, "%q is not a tag, such as tag:sql", tag)
		c.require(slices.Index(t.Tags, tag) == i, at, "%s is listed twice", tag)
	}
}
