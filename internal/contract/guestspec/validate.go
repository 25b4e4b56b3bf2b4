package guestspec

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/schedule"
)

var (
	serviceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	hostLabel   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	secretName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	octalMode   = regexp.MustCompile(`^[0-7]{4}$`)
	tmpfsSize   = regexp.MustCompile(`^([1-9][0-9]{0,17}|[1-9][0-9]?%|100%)$`)
	sysctlName  = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)+$`)
	envName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// stopSignals are the valid signals for stopping a service.
var stopSignals = []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGPWR", "SIGKILL"}

// ValidHostname reports whether name is a DNS label, as a guest's host name must be.
func ValidHostname(name string) bool { return hostLabel.MatchString(name) }

// ValidServer reports whether name can be looked up: an address, or DNS labels.
func ValidServer(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return len(name) <= 253 && !slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return !hostLabel.MatchString(label) })
}

// ValidServiceName reports whether name can be a service's: up to 32 lower-case letters, digits and
// dashes.
func ValidServiceName(name string) bool { return serviceName.MatchString(name) }

// ValidSecretName reports whether name may name a secret: 1 to 64 letters, digits, dots,
// underscores and dashes, the first a letter or a digit.
func ValidSecretName(name string) bool { return secretName.MatchString(name) }

// Validate returns all errors in c, joined, each with its position. An empty field counts as its
// default.
func (c Config) Validate() error {
	c.Services = slices.Clone(c.Services)
	c.setDefaultsOnCopy()
	var p problems
	if c.Format != Format {
		p.add("format", "is %d; this program reads format %d", c.Format, Format)
	}
	p.check(ValidHostname(c.Hostname), "hostname", "%q is not a host name label", c.Hostname)
	p.absolute("data.device", c.Data.Device)
	p.absolute("data.path", c.Data.Path)
	p.check(len(c.Data.Label) <= 16, "data.label", "%q is longer than ext4's 16 bytes", c.Data.Label)
	p.check(c.Data.Wait >= 0, "data.wait", "is negative")
	p.absolute("config_disk", c.ConfigDisk)
	p.check(c.Network.Wait >= 0, "network.wait", "is negative")
	p.check(slices.Contains([]OnFatal{PowerOff, Reboot, Wait}, c.OnFatal), "on_fatal",
		"%q must be poweroff, reboot or wait", c.OnFatal)
	for i, name := range c.TimeServers {
		p.check(ValidServer(name), fmt.Sprintf("time_servers[%d]", i), "%q is neither a host name nor an address", name)
	}
	for name, value := range c.Sysctls {
		p.check(sysctlName.MatchString(name) && value != "" && !strings.ContainsAny(value, "\n\x00"), "sysctls", "%q cannot be set to %q", name, value)
	}
	for i, t := range c.Tmpfs {
		p.tmpfs(fmt.Sprintf("tmpfs[%d]", i), t)
	}
	p.volumes(c)
	for i, o := range c.Firewall.Open {
		p.opening(fmt.Sprintf("firewall.open[%d]", i), o)
	}
	for i, s := range c.Services {
		at := fmt.Sprintf("services[%d]", i)
		if s.Name != "" {
			at = "service " + s.Name
		}
		p.service(at, s)
		p.backup(at+".backup", s.Backup, c.Roots())
	}
	p.order(c.Services)
	return errors.Join(p...)
}

// setDefaultsOnCopy is setDefaults for a c whose Services are its own; lists inside the services
// are still shared with the caller and are therefore copied first.
func (c *Config) setDefaultsOnCopy() {
	c.Tmpfs, c.Volumes = slices.Clone(c.Tmpfs), slices.Clone(c.Volumes)
	for i := range c.Services {
		s := &c.Services[i]
		s.Tmpfs, s.Directories, s.Secrets = slices.Clone(s.Tmpfs), slices.Clone(s.Directories), slices.Clone(s.Secrets)
		s.Prepare, s.PostReady = slices.Clone(s.Prepare), slices.Clone(s.PostReady)
	}
	c.setDefaults()
}

// problems collects errors, in the order of the file.
type problems []error

func (p *problems) add(at, format string, args ...any) {
	*p = append(*p, fmt.Errorf("guest specification: %s: %s", at, fmt.Sprintf(format, args...)))
}

func (p *problems) check(ok bool, at, format string, args ...any) {
	if !ok {
		p.add(at, format, args...)
	}
}

// absolute requires a clean absolute path that is not the root itself.
func (p *problems) absolute(at, name string) {
	p.check(path.IsAbs(name) && path.Clean(name) == name && name != "/" && !strings.ContainsRune(name, 0),
		at, "%q is not a clean absolute path", name)
}

// command requires a program's absolute path and arguments that execve can pass.
func (p *problems) command(at string, argv []string) {
	if len(argv) == 0 {
		p.add(at, "is empty")
		return
	}
	p.absolute(at+"[0]", argv[0])
	for i, a := range argv {
		p.check(!strings.ContainsRune(a, 0), fmt.Sprintf("%s[%d]", at, i), "holds a NUL byte")
	}
}

func (p *problems) tmpfs(at string, t Tmpfs) {
	p.absolute(at+".path", t.Path)
	p.check(octalMode.MatchString(t.Mode), at+".mode", "%q is not four octal digits", t.Mode)
	p.check(t.Size == "" || tmpfsSize.MatchString(t.Size), at+".size", "%q is neither bytes nor a percentage", t.Size)
}

func (p *problems) opening(at string, o Opening) {
	p.check(o.Protocol == TCP || o.Protocol == UDP, at+".protocol", "%q is neither tcp nor udp", o.Protocol)
	p.check(o.Port != 0, at+".port", "is 0")
	p.check(o.On == OnLink || o.On == OnTailnet, at+".on", "%q is neither link nor tailnet", o.On)
	for _, from := range o.From {
		_, err := netip.ParsePrefix(from)
		p.check(err == nil || from == FromSubnet && o.On == OnLink, at+".from", "%q is not a prefix", from)
	}
}

func (p *problems) service(at string, s Service) {
	p.check(serviceName.MatchString(s.Name) && s.Name != "init" && s.Name != "kernel", at+".name",
		"%q is not up to 32 lower-case letters, digits and dashes, or is reserved", s.Name)
	p.command(at+".command", s.Command)
	p.check(s.Dir == "/" || path.IsAbs(s.Dir), at+".dir", "%q is not absolute", s.Dir)
	for name, value := range s.Env {
		p.check(envName.MatchString(name) && !strings.ContainsRune(value, 0), at+".env", "%q cannot be set", name)
	}
	for name, secret := range s.SecretEnv {
		p.check(envName.MatchString(name) && ValidSecretName(secret), at+".secret_env", "%q cannot be set to a secret %q", name, secret)
	}
	for i, f := range s.Secrets {
		at := fmt.Sprintf("%s.secrets[%d]", at, i)
		p.check(ValidSecretName(f.Secret), at+".secret", "%q is not a secret's name", f.Secret)
		p.absolute(at+".path", f.Path)
		p.check(strings.HasPrefix(f.Path, SecretsRoot), at+".path", "%q is not below %s", f.Path, SecretsRoot)
		p.check(octalMode.MatchString(f.Mode) && strings.HasSuffix(f.Mode, "0"), at+".mode", "%q is not four octal digits, the last of them 0", f.Mode)
	}
	if s.Certificate != "" {
		p.absolute(at+".certificate", s.Certificate)
		p.check(strings.HasPrefix(path.Dir(s.Certificate), SecretsRoot), at+".certificate", "%q is not in a directory below %s", s.Certificate, SecretsRoot)
	}
	p.check(!s.TailnetCertificate || s.Certificate != "", at+".tailnet_certificate", "needs a certificate's path")
	for i, d := range s.Directories {
		at := fmt.Sprintf("%s.directories[%d]", at, i)
		p.absolute(at+".path", d.Path)
		p.check(octalMode.MatchString(d.Mode), at+".mode", "%q is not four octal digits", d.Mode)
	}
	for i, t := range s.Tmpfs {
		p.tmpfs(fmt.Sprintf("%s.tmpfs[%d]", at, i), t)
	}
	p.rights(at+".rights", s.Rights)
	p.limits(at+".limits", s.Limits)
	if len(s.Upgrade) > 0 {
		p.command(at+".upgrade", s.Upgrade)
	}
	p.steps(at+".prepare", s.Prepare)
	p.steps(at+".post_ready", s.PostReady)
	if c := s.StartIf; c != nil {
		p.check(c.Secret != "" || c.File != "", at+".start_if", "names nothing")
		p.check(c.Secret == "" || ValidSecretName(c.Secret), at+".start_if.secret", "%q is not a secret's name", c.Secret)
		if c.File != "" {
			p.absolute(at+".start_if.file", c.File)
		}
	}
	p.ready(at+".ready", s.Ready)
	if a := s.Alive; a != nil {
		p.ready(at+".alive", a.Ready)
		p.check(a.Checks() && a.Interval > 0 && a.Failures > 0, at+".alive", "lacks a check, its interval or its number of failures")
	}
	if s.Schedule != "" {
		_, err := schedule.Parse(s.Schedule)
		p.check(err == nil, at+".schedule", "%v", err)
		p.check(!s.Ready.Checks() && s.Alive == nil && len(s.PostReady) == 0, at+".schedule", "does not go with ready, post_ready and alive")
	}
	p.check(s.LogSize >= 0, at+".log_size", "is negative")
	p.restart(at+".restart", s.Restart)
	p.check(slices.Contains(stopSignals, s.Stop.Signal), at+".stop.signal",
		"%q is none of %s", s.Stop.Signal, strings.Join(stopSignals, ", "))
	p.check(s.Stop.Timeout > 0, at+".stop.timeout", "is not positive")
	p.check(s.OOMScoreAdj >= -1000 && s.OOMScoreAdj <= 1000, at+".oom_score_adj", "%d is not in -1000..1000", s.OOMScoreAdj)
}

func (p *problems) backup(at string, b *Backup, roots []string) {
	if b == nil {
		return
	}
	p.check(len(b.Command) > 0 || len(b.Paths) > 0, at, "names nothing")
	p.check((len(b.Command) > 0) == (len(b.Restore) > 0), at, "lacks its command or its restore")
	if len(b.Command) > 0 {
		p.command(at+".command", b.Command)
	}
	if len(b.Restore) > 0 {
		p.command(at+".restore", b.Restore)
	}
	for i, name := range b.Paths {
		at := fmt.Sprintf("%s.paths[%d]", at, i)
		p.absolute(at, name)
		root := Root(roots, name)
		p.check(root != "" && name != root && !within(name, path.Join(root, RestoreDir)), at, "%q is not below %s", name, strings.Join(roots, " or "))
		for j, other := range b.Paths {
			p.check(i == j || !within(name, other), at, "%q is in %q", name, other)
		}
	}
}

func (p *problems) steps(at string, steps []Step) {
	for i, s := range steps {
		at := fmt.Sprintf("%s[%d]", at, i)
		p.command(at+".command", s.Command)
		p.check(s.Secret == "" || ValidSecretName(s.Secret), at+".secret", "%q is not a secret's name", s.Secret)
		p.check(s.Secret != "" || !s.SecretOptional, at+".secret_optional", "there is no secret")
		p.check(s.Timeout > 0, at+".timeout", "is not positive")
	}
}

func (p *problems) ready(at string, r Ready) {
	kinds := 0
	for _, set := range []bool{r.HTTP != "", r.TCP != "", r.Unix != "", r.Postgres != "", len(r.Command) > 0} {
		if set {
			kinds++
		}
	}
	p.check(kinds <= 1, at, "sets more than one of http, tcp, unix, postgres, command")
	if r.TCP != "" {
		p.hostPort(at+".tcp", r.TCP)
	}
	if r.Unix != "" {
		p.absolute(at+".unix", r.Unix)
	}
	if strings.HasPrefix(r.Postgres, "/") {
		p.absolute(at+".postgres", r.Postgres)
	} else if r.Postgres != "" {
		p.hostPort(at+".postgres", r.Postgres)
	}
	if len(r.Command) > 0 {
		p.command(at+".command", r.Command)
	}
	p.check(r.Timeout > 0, at+".timeout", "is not positive")
	p.check(r.Interval >= 0, at+".interval", "is negative")
	if r.HTTP != "" {
		u, err := url.Parse(r.HTTP)
		p.check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "", at+".http", "%q is not a URL of http or https", r.HTTP)
	}
}

func (p *problems) hostPort(at, address string) {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	p.check(err == nil && perr == nil && host != "" && n > 0, at, "%q is not HOST:PORT", address)
}

func (p *problems) restart(at string, r Restart) {
	p.check(slices.Contains([]RestartPolicy{Always, OnFailure, Never}, r.Policy), at+".policy",
		"%q must be always, on-failure or never", r.Policy)
	// Below a millisecond a crashing service would use a whole processor.
	p.check(r.Backoff >= Duration(time.Millisecond), at+".backoff", "%s is less than 1ms", r.Backoff)
	p.check(r.MaxBackoff >= r.Backoff, at+".max_backoff", "%s is less than backoff", r.MaxBackoff)
	p.check(r.Reset > 0, at+".reset", "is not positive")
	p.check(r.Limit > 0, at+".limit", "is not positive")
}

// order requires unique names, and After to name other services without cycles.
func (p *problems) order(services []Service) {
	byName := map[string]Service{}
	for _, s := range services {
		_, twice := byName[s.Name]
		p.check(!twice, "service "+s.Name, "is described twice")
		byName[s.Name] = s
	}
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(name string) bool
	visit = func(name string) bool {
		switch state[name] {
		case visiting:
			return false
		case done:
			return true
		}
		state[name] = visiting
		for _, dep := range byName[name].After {
			if !visit(dep) {
				return false
			}
		}
		state[name] = done
		return true
	}
	for _, s := range services {
		for _, dep := range s.After {
			_, known := byName[dep]
			p.check(known, "service "+s.Name+".after", "there is no service %q", dep)
		}
		if !visit(s.Name) {
			p.add("service "+s.Name+".after", "the services wait for each other in a circle")
			return
		}
	}
}
