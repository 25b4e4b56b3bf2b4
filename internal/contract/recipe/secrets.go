package recipe

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A Secret is a value that services of the machine use and that is never part of the image. The
// passwords of roles, the auth key of the tailnet and the key of the data disk are derived from
// other keys and not declared.
type Secret struct {
	Name     string `yaml:"name"`
	Generate bool   `yaml:"generate"` // sov push and sov run generate it if it does not exist
	From     string `yaml:"from"`     // MACHINE/SECRET: the value is another machine's
}

// A SecretFile is a file in the guest's memory with a secret of a service.
type SecretFile struct {
	Name  string `yaml:"name"`
	File  string `yaml:"file"`  // below /run; empty: /run/secrets/SERVICE/NAME
	Owner string `yaml:"owner"` // user name; empty: the service's user
	Mode  Mode   `yaml:"mode"`  // absent: 0400
}

// A Variable is the value of an environment variable: a text, or the name of a secret whose value
// it is.
type Variable struct {
	Text   string `yaml:"-"`
	Secret string `yaml:"secret"`
}

// Short implements strictyaml.Abbreviated.
func (v *Variable) Short() any { return &v.Text }

// secretsDir is the default folder of secrets.
const secretsDir = "/run/secrets"

const rolePrefix = "role-"

// Secret returns the name of the secret with the role's password.
func (r Role) Secret() string { return rolePrefix + r.Name }

// RoleOf returns the role of a password secret.
func RoleOf(secret string) (role string, ok bool) {
	if secret == guestspec.ServicePostgres {
		return secret, true
	}
	return strings.CutPrefix(secret, rolePrefix)
}

// passwords returns the names of the secrets with the passwords of roles.
func (r *Recipe) passwords() (names []string) {
	if r.Postgres.Enabled {
		names = append(names, guestspec.ServicePostgres)
		for _, role := range r.Postgres.Roles {
			names = append(names, role.Secret())
		}
	}
	return names
}

// forServices returns the names of the secrets that services may use.
func (r *Recipe) forServices() []string {
	names := r.passwords()
	for _, s := range r.Declared {
		names = append(names, s.Name)
	}
	return names
}

// Secrets returns the names of the secrets of a machine, in the order for setting them.
func (r *Recipe) Secrets() []string {
	names := r.forServices()
	if r.Tailscale.Enabled {
		names = append(names, guestspec.ServiceTailscale)
	}
	if r.Encrypts() {
		names = append(names, guestspec.SecretDataKey)
	}
	return names
}

// Generates reports whether sov generates a secret: the password of a role, or one with generate in
// the recipe.
func (r *Recipe) Generates(secret string) bool {
	return Generates(secret, r.Declared)
}

// Generates is Recipe.Generates for a known list of declared secrets.
func Generates(secret string, declared []Secret) bool {
	_, role := RoleOf(secret)
	return role || slices.ContainsFunc(declared, func(s Secret) bool { return s.Name == secret && s.Generate })
}

// NeededSecrets returns the secrets without which services do not start: declared secrets, and
// passwords of roles that services use, even if the database is not reachable from outside.
func (r *Recipe) NeededSecrets() []Secret {
	needed := slices.Clone(r.Declared)
	passwords := r.passwords()
	add := func(name string) {
		if slices.Contains(passwords, name) {
			needed = addOnce(needed, Secret{Name: name, Generate: true})
		}
	}
	for _, name := range r.Postgres.tlsSecrets() {
		add(name)
	}
	for _, s := range r.Services {
		for _, f := range s.Secrets {
			add(f.Name)
		}
		for _, variable := range slices.Sorted(maps.Keys(s.Environment)) {
			add(s.Environment[variable].Secret)
		}
	}
	return needed
}

// CheckSecret returns an error if the recipe's machine does not use a secret of that name. Keys of
// data disks are always accepted: an encrypted disk stays encrypted, whatever the recipe says now.
func (r *Recipe) CheckSecret(name string) error {
	known := r.Secrets()
	if slices.Contains(known, name) || name == guestspec.SecretDataKey || name == guestspec.SecretOldDataKey || StaysHere(name) {
		return nil
	}
	if len(known) == 0 {
		return fmt.Errorf("secret %q: the recipe %s uses no secrets: declare it there, under secrets", name, r.Name)
	}
	return didYouMean(name, known, fmt.Errorf("secret %q: must be one that the recipe %s uses: %s", name, r.Name, strings.Join(known, ", ")))
}

// CheckSecret is Recipe.CheckSecret for a known list of declared secrets.
func CheckSecret(name string, declared []Secret) error {
	known := slices.Clone(builtIns)
	for _, s := range declared {
		known = append(known, s.Name)
	}
	role, isRole := strings.CutPrefix(name, rolePrefix)
	if isRole && roleForm.MatchString(role) || slices.Contains(known, name) {
		return nil
	}
	return didYouMean(name, known, fmt.Errorf("secret %q: must be %s, or %sNAME for a role; for one that a recipe declares, give the recipe's path in place of the machine's name",
		name, strings.Join(known, ", "), rolePrefix))
}

func didYouMean(name string, known []string, err error) error {
	if near := strictyaml.Nearest(name, known); near != "" {
		return fmt.Errorf("%w; did you mean %q?", err, near)
	}
	return err
}

// builtIns are the secrets with predefined names, in addition to those of roles.
var builtIns = []string{guestspec.ServicePostgres, guestspec.ServiceTailscale, guestspec.SecretDataKey, guestspec.SecretOldDataKey, SecretTailscaleAPI}

// fromForm is the syntax of Secret.From.
var fromForm = regexp.MustCompile(`^([^/]*)/([^/]*)$`)

func (c *checker) secrets() {
	seen := map[string]bool{}
	for i, s := range c.Declared {
		at := strictyaml.Index("secrets", i)
		c.require(guestspec.ValidSecretName(s.Name), at+".name", "%q is not the name of a secret: use up to 64 letters, digits, dots, underscores and hyphens, the first a letter or a digit", s.Name)
		c.require(!slices.Contains(builtIns, s.Name) && !strings.HasPrefix(s.Name, rolePrefix), at+".name", "%q follows from other keys of a recipe and is not declared: use another name", s.Name)
		c.require(!seen[s.Name], at+".name", "secret %q is listed twice", s.Name)
		seen[s.Name] = true
		if s.From == "" {
			continue
		}
		c.require(!s.Generate, at+".from", "is another machine's value, which cannot be generated here: leave generate out")
		parts := fromForm.FindStringSubmatch(s.From)
		if parts == nil || !artifact.ValidName(parts[1]) || !guestspec.ValidSecretName(parts[2]) {
			c.doc.Faultf(at+".from", "%q is not MACHINE/SECRET, such as sql/role-app", s.From)
			continue
		}
		c.require(parts[1] != c.Name, at+".from", "%s is this machine, whose services may use the secret %s as it is", parts[1], parts[2])
		c.require(parts[2] != guestspec.SecretDataKey && parts[2] != guestspec.SecretOldDataKey, at+".from", "the key of a data disk is not shared")
		c.require(!StaysHere(parts[2]), at+".from", "%s never leaves the computer", parts[2])
	}
}

// serviceSecrets checks a service's use of secrets.
func (c *checker) serviceSecrets(at string, s Service) {
	for i, f := range s.Secrets {
		at := strictyaml.Index(at+".secrets", i)
		c.usable(at+".name", f.Name)
		c.require(slices.IndexFunc(s.Secrets, func(o SecretFile) bool { return o.File == f.File }) == i, at+".file", "%q is listed twice", f.File)
		c.require(f.Mode&0o007 == 0, at+".mode", "\"%04o\" lets every user read or write the secret", f.Mode)
		if !cleanAbsolute(f.File) || !strings.HasPrefix(f.File, "/run/") {
			c.doc.Faultf(at+".file", "%q is not a clean path below /run, which is in memory", f.File)
			continue
		}
		for _, other := range c.Services {
			for _, d := range other.Directories {
				c.require(f.File != d.Path && !strings.HasPrefix(f.File, d.Path+"/"), at+".file", "%q is in a directory that service %s may write: use a separate directory, such as %s", f.File, other.Name, path.Join(secretsDir, s.Name))
			}
		}
	}
	for name, v := range s.Environment {
		if v.Secret != "" {
			c.usable(strictyaml.Join(at+".environment", name)+".secret", v.Secret)
		}
	}
}

// usable checks that a service may use a secret.
func (c *checker) usable(at, name string) {
	known := c.forServices()
	if slices.Contains(known, name) {
		return
	}
	c.check(at, didYouMean(name, known, fmt.Errorf("there is no secret %q: declare it under secrets, at the top of the recipe", name)))
}
