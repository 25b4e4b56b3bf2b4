package recipe

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

var (
	// roleForm limits the length so that "role-" and the name fit into the name of a secret.
	roleForm     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,58}$`)
	databaseForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,62}$`)
)

var settingForm = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$`)

// pinned are the settings with only one accepted value, and the consequence of another.
var pinned = map[string]struct {
	values []string
	why    string
}{
	"fsync": {yes, "without it a power cut, or Android ending the machine, loses committed rows and can leave the cluster unreadable"},
	"full_page_writes": {yes, "without it a page that was half written at a power cut cannot be repaired; " +
		"ext4 does not write 8 KiB pages as a whole"},
	"dynamic_shared_memory_type": {[]string{"mmap"}, "POSIX shared memory fails under Android's virtualization framework"},
	"password_encryption":        {[]string{"scram-sha-256"}, "the network is authenticated with SCRAM only"},
}

// yes lists the spellings of PostgreSQL's true.
var yes = []string{"on", "true", "yes", "1"}

// owned are the settings that the build derives from other keys or sets itself.
var owned = map[string]string{
	"listen_addresses":        "set postgres.listen instead",
	"port":                    "set postgres.port instead",
	"data_directory":          "set postgres.data instead",
	"hba_file":                "the build writes pg_hba.conf; set postgres.networks instead",
	"ident_file":              "the build keeps the configuration in the read-only image",
	"config_file":             "the build keeps the configuration in the read-only image",
	"unix_socket_directories": "the init sets passwords through the socket in /run/postgresql",
	"external_pid_file":       "the init watches the server itself",
	"include":                 "write the settings into the recipe",
	"include_dir":             "write the settings into the recipe",
	"include_if_exists":       "write the settings into the recipe",
}

func (c *checker) postgres() {
	p := c.Postgres
	if !p.Enabled {
		return
	}
	c.require(accountForm.MatchString(p.User) && p.User != "root", "postgres.user", "%q is not the name of an unprivileged user", p.User)
	c.require(cleanAbsolute(p.Data) && strings.HasPrefix(p.Data, "/data/"), "postgres.data", "%q is not a directory below /data, the disk that outlives the image", p.Data)
	c.require(validPort(p.Port), "postgres.port", "%d is not a port", p.Port)
	for i, address := range p.Listen {
		_, err := netip.ParseAddr(address)
		c.require(err == nil || address == "*", strictyaml.Index("postgres.listen", i), "%q is neither an address nor \"*\"", address)
	}
	collations := []Collation{CollationAuto, CollationBuiltin, CollationICU, CollationLibc}
	_, isLocale := p.Collation.Locale()
	c.require(isLocale || slices.Contains(collations, p.Collation), "postgres.collation",
		"%q is none of auto, builtin, icu, libc, nor a locale of ICU, such as de or en-US", p.Collation)
	for i, network := range p.Networks {
		_, err := netip.ParsePrefix(network)
		c.require(err == nil || slices.Contains([]string{NetworkTAP, NetworkTailnet, NetworkPeers}, network), strictyaml.Index("postgres.networks", i),
			"%q is neither a prefix such as 10.0.0.0/8 nor one of the words tap and tailnet", network)
	}
	c.require(slices.Contains([]string{"", SuperuserHost, SuperuserAnywhere}, p.Superuser), "postgres.superuser", "%q must be host or anywhere", p.Superuser)
	c.require(p.ConnectRate >= 0 && p.ConnectRate <= 10000, "postgres.connect_rate", "%d must be 0 to 10000 connections a second", p.ConnectRate)
	c.postgresMajor()
	for i, role := range p.Roles {
		at := strictyaml.Index("postgres.roles", i)
		c.require(roleForm.MatchString(role.Name), at+".name", "%q is not a role's name; use up to 59 lower-case letters, digits, hyphens and underscores", role.Name)
		c.require(role.Name != "postgres", at+".name", "postgres is there without being listed; its password is the secret postgres")
		c.require(!strings.HasPrefix(role.Name, "pg_") && role.Name != "public" && role.Name != "none", at+".name", "%q is a name that PostgreSQL keeps for itself", role.Name)
		c.require(slices.IndexFunc(p.Roles, func(r Role) bool { return r.Name == role.Name }) == i, at+".name", "role %q is listed twice", role.Name)
		c.require(role.Database == role.Name || databaseForm.MatchString(role.Database), at+".database", "%q is not a database's name; use up to 63 lower-case letters, digits, hyphens and underscores", role.Database)
		c.require(role.Database != "template0" && role.Database != "template1", at+".database", "%s is what new databases are copied from", role.Database)
	}
	c.tls()
	c.extensions()
	c.pooler()
	for _, name := range slices.Sorted(maps.Keys(p.Settings)) {
		c.setting(name, string(p.Settings[name]))
	}
}

func (c *checker) setting(name, value string) {
	at := strictyaml.Join("postgres.settings", name)
	c.require(settingForm.MatchString(name), at, "%q is not a parameter name; write it in lower case", name)
	if instead, ok := owned[name]; ok {
		c.doc.Faultf(at, "cannot be set here: %s", instead)
	}
	if rule, ok := pinned[name]; ok && !slices.Contains(rule.values, strings.ToLower(value)) {
		c.doc.Faultf(at, "cannot be %s, only %s: %s", value, rule.values[0], rule.why)
	}
}
