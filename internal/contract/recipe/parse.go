package recipe

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"
)

// Parse reads a recipe, sets defaults and validates it. name is used in messages. The error is of
// type strictyaml.Errors and has all faults; after YAML syntax errors the semantics are not
// checked.
func Parse(name string, src []byte) (*Recipe, error) {
	r, _, err := Compose(Source{Name: name, Text: src}, Variant{}, func(Source, string) (Source, error) {
		return Source{}, errors.New("a recipe that is not in a file cannot extend another one")
	})
	return r, err
}

// serviceOOMScore makes the kernel kill a service before PostgreSQL's sessions, which are at 0,
// unless a session uses a fifth of the machine's memory more.
const serviceOOMScore = 200

// serviceProcesses is far more than a server needs, and too few to affect the machine's other
// services.
const serviceProcesses = 512

// defaults returns a recipe with the default values.
func defaults() *Recipe {
	return &Recipe{
		Version: "0",
		Postgres: Postgres{
			User:      "postgres",
			Data:      "/data/postgres",
			Listen:    []string{"*"},
			Port:      5432,
			Collation: CollationAuto,
			Networks:  []string{NetworkTAP, NetworkTailnet},
			// With authentication_timeout, idle and password-guessing clients leave slots of
			// max_connections for the host: see docs/security.md.
			ConnectRate: 3,
		},
		VM: VM{Memory: GiB, CPUs: 2, Data: 8 * GiB, Awake: "always", Shell: true, Ready: MachineReady{machineTimeout}},
		Network: Network{
			MTU:  1500,
			DNS:  []string{"1.1.1.1", "9.9.9.9"},
			Time: []string{"pool.ntp.org"},
		},
	}
}

// complete sets the values that are derived from others.
func (r *Recipe) complete() {
	setDefault(&r.Network.Hostname, hostnameOf(r.Name))
	setDefault(&r.Tailscale.Hostname, r.Network.Hostname)
	setDefault(&r.Rootfs.Label, r.Name[:min(len(r.Name), maxLabel)])
	r.completePooler()
	r.completePublished()
	r.Postgres.completeTLS()
	r.completeAddress()
	r.completeVolumes()
	if r.Encrypts() {
		setDefault(&r.VM.DataKey, DataKeyOnPhone)
		r.Packages.require(encryptionPackages)
	}
	for i := range r.Postgres.Roles {
		setDefault(&r.Postgres.Roles[i].Database, r.Postgres.Roles[i].Name)
	}
	r.completeExtensions()
	for i := range r.Files {
		setDefault(&r.Files[i].Mode, 0o644)
		setDefault(&r.Files[i].Owner, "root")
	}
	for i := range r.Copy {
		setDefault(&r.Copy[i].To, r.Copy[i].Path)
	}
	for i := range r.Users {
		u := &r.Users[i]
		setDefault(&u.Group, u.Name)
		setDefault(&u.Home, "/")
		setDefault(&u.Shell, "/sbin/nologin")
	}
	for i := range r.Directories {
		setDefault(&r.Directories[i].Mode, 0o755)
		setDefault(&r.Directories[i].Owner, "root")
	}
	for i := range r.Services {
		s := &r.Services[i]
		setDefault(&s.Limits.Processes, serviceProcesses)
		if s.OOMScore == nil {
			s.OOMScore = new(serviceOOMScore)
		}
		for j := range s.Secrets {
			f := &s.Secrets[j]
			setDefault(&f.File, path.Join(secretsDir, s.Name, f.Name))
			setDefault(&f.Owner, s.User)
			setDefault(&f.Mode, 0o400)
		}
		s.completeLife()
		if s.Command.OfImage() {
			continue // missing values come from the image
		}
		setDefault(&s.User, "root")
		setDefault(&s.Directory, "/")
		setDefault(&s.Ready.Timeout, Duration(time.Minute))
		setDefault(&s.Restart.Policy, "always")
		setDefault(&s.Restart.Backoff, Duration(time.Second))
		setDefault(&s.Stop.Signal, "SIGTERM")
		setDefault(&s.Stop.Timeout, Duration(10*time.Second))
		for j := range s.Directories {
			setDefault(&s.Directories[j].Mode, 0o750)
			setDefault(&s.Directories[j].Owner, s.User)
		}
	}
}

// encryptionPackages have the programs with which sov-init encrypts and formats a data disk.
var encryptionPackages = []string{"cryptsetup", "e2fsprogs"}

// require adds packages unless the recipe lists them, with any version.
func (p *Packages) require(names []string) {
	for _, name := range names {
		named := func(listed string) bool {
			return listed == name || strings.HasPrefix(listed, name) && strings.ContainsRune("<>=~@", rune(listed[len(name)]))
		}
		if !slices.ContainsFunc(p.Install, named) {
			p.Install = append(p.Install, name)
		}
	}
}

// hostnameOf returns the default host name of a machine. A DNS label must not end with a hyphen,
// but a machine's name may.
func hostnameOf(name string) string { return strings.TrimRight(name, "-") }

func setDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}
