package recipe

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"
)

// Parse reads a recipe, fills in what it leaves out and checks it. name stands
// in messages. The error, if any, is of type strictyaml.Errors and has every
// fault found; when the YAML itself is at fault its meaning is not checked.
func Parse(name string, src []byte) (*Recipe, error) {
	r, _, err := Compose(Source{Name: name, Text: src}, Variant{}, func(Source, string) (Source, error) {
		return Source{}, errors.New("a recipe that is not in a file cannot extend another one")
	})
	return r, err
}

// serviceOOMScore lets a service go before PostgreSQL's sessions, which are at 0, unless one of
// them takes a fifth of the machine's memory more.
const serviceOOMScore = 200

// serviceProcesses is far more than a server needs, and far less than what the machine's other
// services would notice.
const serviceProcesses = 512

// defaults returns a recipe with the values of keys that are not given.
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
			// With authentication_timeout, those that say nothing and those that guess leave slots
			// of max_connections to the host: see docs/security.md.
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

// complete fills in the values that follow from others.
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
			continue // what is not given is the image's
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

// encryptionPackages have what sov-init encrypts and formats a data disk with.
var encryptionPackages = []string{"cryptsetup", "e2fsprogs"}

// require adds packages unless the recipe names them, with whatever version.
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

// hostnameOf is the host name of a machine whose recipe gives none. A DNS label does not end with a
// hyphen, a machine's name may.
func hostnameOf(name string) string { return strings.TrimRight(name, "-") }

func setDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}
