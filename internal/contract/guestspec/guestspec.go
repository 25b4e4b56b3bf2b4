// Package guestspec describes a guest to its init: what PID 1 mounts, which services it runs and
// how it looks after them.
//
// A build writes one [Config] to [ConfigPath] and one [Service] per file into [ServicesDir];
// sov-init reads them back with [Load]. What is only known when the machine starts (addresses,
// time, secrets) is not here but on the config disk, see package configdisk.
//
// The package holds data only and builds on every system, so that the build, the runner and the
// guest share one definition.
package guestspec

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/strictjson"
)

const (
	// Format is the version of the files that this package reads and writes.
	Format = 1
	// ConfigPath is where the guest finds its Config.
	ConfigPath = "/etc/sov/guest.json"
	// ServicesDir holds one Service per file, named NAME.json.
	ServicesDir = "/etc/sov/services"
	// EndpointPort is the TCP port of the status endpoint unless Config says otherwise.
	EndpointPort = 8377
	// DataLabel is the ext4 label by which the data disk is found.
	DataLabel = "sov-data"
	// DataPath is where the data disk is mounted.
	DataPath = "/data"
	// ServicePostgres and ServiceTailscale are the names of the two services whose state the
	// endpoint tells in more detail.
	ServicePostgres, ServiceTailscale = "postgres", "tailscale"
	// ServicePooler is the name of the service that pools connections to PostgreSQL.
	ServicePooler = "pgbouncer"
	// DefaultPath is PATH for every process of the guest; the kernel gives PID 1 none.
	DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// ExitPermanent is the exit status (EX_CONFIG of sysexits.h) by which a step or a service says
	// that starting it again cannot help: a person has to look. Its last line of output is shown
	// as the reason in the guest's status.
	ExitPermanent = 78
	// HostFile holds what the config disk says of the phone or computer that has started the guest.
	HostFile = "/run/sov-host"
	// MaxSecret bounds a secret, in bytes.
	MaxSecret = 64 << 10
	// SecretDataKey is the name of the secret that opens an encrypted data disk, and
	// SecretOldDataKey that of the one before: a disk that only the old key opens is changed over
	// to the new one.
	SecretDataKey, SecretOldDataKey = "data-key", "data-key-old"
)

// Config is the whole of what the image tells its init.
type Config struct {
	Format int   `json:"format"` // always the constant Format
	Image  Image `json:"image"`  // what was built; reported by the status endpoint
	// Hostname is used unless the config disk names another.
	Hostname string `json:"hostname"`
	// Path is PATH for every process; empty means DefaultPath.
	Path string `json:"path,omitempty"`
	Data Data   `json:"data"`
	// ConfigDisk is the device looked at first for the config disk, such as /dev/vdc. A disk
	// with the config disk's magic is found wherever it is attached.
	ConfigDisk string  `json:"config_disk,omitempty"`
	Network    Network `json:"network"`
	// Endpoint is where status is answered: this port, on the address from the config disk.
	Endpoint Endpoint `json:"endpoint"`
	// Firewall is what the guest lets in besides.
	Firewall Firewall `json:"firewall,omitzero"`
	// TimeServers are public NTP servers, by name or address, for when the host tells no time.
	TimeServers []string `json:"time_servers,omitempty"`
	// Sysctls are settings of the kernel that the recipe wants besides sov-init's.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Tmpfs are mounted at boot, besides /run, /tmp and /dev/shm which every guest has.
	Tmpfs []Tmpfs `json:"tmpfs,omitempty"`
	// OnFatal says what PID 1 does when it cannot continue; empty means PowerOff.
	OnFatal OnFatal `json:"on_fatal,omitempty"`
	// Volumes are further disks, see Volume.
	Volumes []Volume `json:"volumes,omitempty"`
	// Services may stand here or, one a file, in ServicesDir.
	Services []Service `json:"services,omitempty"`
}

// Image names the build that the guest runs.
type Image struct {
	Name    string `json:"name"`    // the recipe, such as "sql"
	Version string `json:"version"` // shown in status; compared with the manifest by whoever updates
}

// Data describes the data disk. The guest checks and mounts it. It formats none but an encrypted
// one that carries NewDiskMark.
type Data struct {
	// Label is the ext4 label looked for on every block device; empty means DataLabel.
	Label string `json:"label,omitempty"`
	// Device is taken when it holds ext4 and no disk carries the label; empty means /dev/vdb. A
	// Volume has none.
	Device string `json:"device,omitempty"`
	// Path is the mount point; empty means DataPath.
	Path string `json:"path,omitempty"`
	// Wait is how long the device may take to appear; 0 means 5 s.
	Wait Duration `json:"wait,omitempty"`
	// Encrypted data disks hold LUKS2, which the secret SecretDataKey opens, and the file system in
	// it. No other disk is taken then.
	Encrypted bool `json:"encrypted,omitempty"`
}

// Network says which interface gets the address from the config disk.
type Network struct {
	// Driver is the kernel driver of the interface, whatever its name; empty means virtio_net.
	Driver string `json:"driver,omitempty"`
	// Interface, when set, names the interface and Driver is not looked at.
	Interface string `json:"interface,omitempty"`
	// Wait is how long the interface may take to appear; 0 means 5 s.
	Wait Duration `json:"wait,omitempty"`
}

// Endpoint describes the guest's HTTP endpoint.
type Endpoint struct {
	Port  uint16 `json:"port,omitempty"`  // 0 means EndpointPort
	Shell bool   `json:"shell,omitempty"` // it also starts shells and commands for its callers
}

// Firewall is what the guest lets in besides answers to its own questions, ICMP, whatever comes
// from itself, and the endpoint's port from the gateway. All else is dropped.
type Firewall struct {
	Open []Opening `json:"open,omitempty"`
}

// An Opening lets one port's traffic in.
type Opening struct {
	Protocol string `json:"protocol"` // TCP or UDP
	Port     uint16 `json:"port"`
	On       string `json:"on"` // OnLink or OnTailnet
	// From are the prefixes that may come in, or FromSubnet; none means anybody.
	From []string `json:"from,omitempty"`
	// PerSecond bounds the new connections that are let in each second from anywhere but the
	// gateway, after OpeningBurst at once; more of them wait, as TCP repeats what was dropped. 0:
	// no bound.
	PerSecond uint32 `json:"per_second,omitempty"`
	// Service is what listens there, for people; empty: the recipe does not say.
	Service string `json:"service,omitempty"`
}

// OpeningBurst is how many connections an Opening with a bound lets in at once, after a pause.
const OpeningBurst = 10

// What the fields of an Opening hold.
const (
	TCP, UDP = "tcp", "udp"
	// OnLink is the interface from Network, OnTailnet the one that Tailscale makes.
	OnLink, OnTailnet = "link", "tailnet"
	// FromSubnet is the subnet of the address from the config disk.
	FromSubnet = "subnet"
)

// TailnetInterface is what tailscaled calls its interface.
const TailnetInterface = "tailscale0"

// OnFatal is what PID 1 does, after syncing the disks and saying why, when it cannot continue.
type OnFatal string

// What a fatal error leads to.
const (
	PowerOff OnFatal = "poweroff" // switch the machine off, so that whoever runs it notices
	Reboot   OnFatal = "reboot"   // start over
	Wait     OnFatal = "wait"     // stand still, for a person to read the console
)

// Tmpfs is a file system in memory.
type Tmpfs struct {
	Path string `json:"path"`
	// Mode is four octal digits, such as "0700"; empty means "0755".
	Mode  string `json:"mode,omitempty"`
	User  string `json:"user,omitempty"`  // owner of its root; empty means root
	Group string `json:"group,omitempty"` // empty means the user's own group
	// Size bounds it: bytes, or a percentage of the machine's memory such as "25%"; empty means
	// the kernel's default, half of the memory.
	Size string `json:"size,omitempty"`
}

// Directory is made (with missing parents, those owned by root, mode 0755) before a service is
// prepared. One that exists gets this owner and mode; what is in it is left alone.
type Directory struct {
	Path  string `json:"path"`
	Mode  string `json:"mode,omitempty"` // four octal digits; empty means "0755"
	User  string `json:"user,omitempty"`
	Group string `json:"group,omitempty"`
}

// Service is a process that the init keeps running.
//
// Its life: wait for After, make Directories, run Prepare, mount Tmpfs, start Command, wait for
// Ready, run PostReady; it is ready then, and Alive is looked at. When the process ends, or Alive
// fails, whatever it left running is killed and Restart decides. All but After is repeated at each
// start.
type Service struct {
	// Name is lower-case letters, digits and dashes, and appears in logs and status.
	Name    string   `json:"name"`
	Command []string `json:"command"` // program (absolute path) and arguments; no shell
	User    string   `json:"user,omitempty"`
	Group   string   `json:"group,omitempty"` // empty means the user's own group
	// Env is added to PATH, HOME, USER, LOGNAME and SHELL, which every service has.
	Env map[string]string `json:"env,omitempty"`
	// SecretEnv is added too: the value of each variable is the secret of that name.
	SecretEnv map[string]string `json:"secret_env,omitempty"`
	Dir       string            `json:"dir,omitempty"` // working directory; empty means /
	// After names services that must be ready (or, with restart policy never, have ended well)
	// before the first start. They are stopped after this one.
	After []string `json:"after,omitempty"`
	// StartIf, when set, is looked at once, before the first start: a service for which it does
	// not hold is off, and what comes after it does not wait for it.
	StartIf     *StartIf    `json:"start_if,omitempty"`
	Directories []Directory `json:"directories,omitempty"`
	// Secrets are written to files in memory once, before any service starts. A service of which
	// one is not on the config disk fails.
	Secrets []SecretFile `json:"secrets,omitempty"`
	// Certificate is a file in memory, in a directory of its own below SecretsRoot, that holds the
	// machine's certificate and its key in PEM, for the service's user alone. It is there before
	// any service starts. The service gets SIGHUP when it is replaced.
	Certificate string `json:"certificate,omitempty"`
	// TailnetCertificate has that file hold the certificate for the node's name that tailscaled
	// orders, while there is one.
	TailnetCertificate bool   `json:"tailnet_certificate,omitempty"`
	Prepare            []Step `json:"prepare,omitempty"` // in order; a failing one counts as a failed start
	// Tmpfs are mounted after Prepare and stay mounted over restarts.
	Tmpfs []Tmpfs `json:"tmpfs,omitempty"`
	Ready Ready   `json:"ready"`
	// PostReady runs in order once Ready holds; failing steps are tried again for as long as the
	// service lives, which is not ready before they succeed.
	PostReady []Step `json:"post_ready,omitempty"`
	// Alive is looked at while the service is ready; nil: never.
	Alive *Alive `json:"alive,omitempty"`
	// Schedule, as package schedule reads it, makes the service one that runs at those times, to
	// its end. It has neither Ready nor PostReady nor Alive, and Restart is not looked at.
	Schedule    string  `json:"schedule,omitempty"`
	LogSize     int64   `json:"log_size,omitempty"` // of its log on the data disk, in bytes; 0 means 2 MiB
	Restart     Restart `json:"restart"`
	Stop        Stop    `json:"stop"`
	OOMScoreAdj int     `json:"oom_score_adj,omitempty"` // -1000 (never killed) to 1000 (first)
	Rights      Rights  `json:"rights,omitzero"`
	Limits      Limits  `json:"limits,omitzero"`
	Backup      *Backup `json:"backup,omitempty"` // nil: none of its data is saved
	// Upgrade is StepUpgrade, without --do: a program and its arguments, which run as root. Only of
	// ServicePostgres.
	Upgrade []string `json:"upgrade,omitempty"`
}

// Backup is what a backup saves of a service. Its programs run as the service's user, confined as
// the service is.
type Backup struct {
	Command []string `json:"command,omitempty"` // writes the data to its standard output while the service runs
	Restore []string `json:"restore,omitempty"` // reads what Command wrote from its standard input, likewise
	// Paths are files and directories on the data disk and the volumes, none inside another.
	// Without Command the service is stopped while they are read. It always is while they are
	// replaced.
	Paths []string `json:"paths,omitempty"`
	// Asked has its data saved only where the caller asks for the machine's identity: they are not
	// to be in two places.
	Asked bool `json:"asked,omitempty"`
}

// RestoreDir is the directory on the data disk and on each volume, below one of Config.Roots, in
// which what a restore brings waits for its place.
const RestoreDir = ".sov-restore"

// CertificateDir is the directory on the data disk, below Data.Path, with the machine's certificate
// authority.
const CertificateDir = ".sov-tls"

// SecretFile is a secret of the config disk in a file that other services do not see.
type SecretFile struct {
	Secret string `json:"secret"`
	Path   string `json:"path"`           // below SecretsRoot, outside every service's Directories
	Mode   string `json:"mode,omitempty"` // four octal digits; empty means "0400"
	User   string `json:"user,omitempty"` // empty means the service's user
}

// SecretsRoot is in memory. Only root may make files in it.
const SecretsRoot = "/run/"

// StartIf holds when any of what it names is there.
type StartIf struct {
	Secret string `json:"secret,omitempty"` // on the config disk
	File   string `json:"file,omitempty"`   // exists and is not empty
}

// Step is a command that runs to its end around a service's start.
type Step struct {
	Command []string `json:"command"`
	User    string   `json:"user,omitempty"` // empty means the service's user
	// Secret names a secret of the config disk, whose bytes the step gets on its standard input
	// (nothing else ever carries it). A step whose secret is not on the disk is skipped, or, with
	// SecretOptional, finds its standard input empty.
	Secret         string   `json:"secret,omitempty"`
	SecretOptional bool     `json:"secret_optional,omitempty"`
	Timeout        Duration `json:"timeout,omitempty"` // 0 means 5 min; the step is killed then
	// Unconfined steps have the rights of sov-init, others those of their service. Only programs
	// that the build put into the image itself run so.
	Unconfined bool `json:"unconfined,omitempty"`
}

// Ready says how to tell that a started service does its work. At most one of the first five is
// set; with none, a service is ready once it has run for as long as the pause before its next start
// would be, so that one which ends at once never is, and one with restart policy never only once it
// has ended well.
type Ready struct {
	// HTTP is a URL that answers a GET with a status from 200 to 399. Redirections are not
	// followed, and certificates not checked: the service is asked on its own machine.
	HTTP string `json:"http,omitempty"`
	TCP  string `json:"tcp,omitempty"`  // HOST:PORT accepts a connection
	Unix string `json:"unix,omitempty"` // the socket at this path accepts a connection
	// Postgres is HOST:PORT, or the path of a socket, where a PostgreSQL server answers a startup
	// message with anything but "the database system is starting up". Through its socket a server
	// is not asked before its postmaster.pid says that it is ready, so that it logs no such answer.
	Postgres string   `json:"postgres,omitempty"`
	Command  []string `json:"command,omitempty"` // exits 0, run as the service's user
	// Timeout is when a service that is not ready is reported as late; 0 means 60 s. It is not
	// killed: a database that replays a long log would never come up.
	Timeout Duration `json:"timeout,omitempty"`
	// Interval is the time between looks; 0 means 20 ms at first and 250 ms at last.
	Interval Duration `json:"interval,omitempty"`
}

// Checks reports whether r looks at anything.
func (r Ready) Checks() bool {
	return r.HTTP != "" || r.TCP != "" || r.Unix != "" || r.Postgres != "" || len(r.Command) > 0
}

// Alive is a check of a service that is ready: one of the first five fields of Ready, whose Timeout
// is that of each look and whose Interval is the time between them.
type Alive struct {
	Ready
	Failures int `json:"failures"` // in a row after which the service is stopped, as if it had ended with an error
}

// RestartPolicy says which ends of a service are followed by another start.
type RestartPolicy string

// Restart policies. Whatever the policy, nothing is restarted during shutdown or after
// ExitPermanent.
const (
	Always    RestartPolicy = "always"
	OnFailure RestartPolicy = "on-failure" // any end but exit status 0
	Never     RestartPolicy = "never"      // a task that runs once each boot
)

// Restart is how a service that ended comes back: after Backoff, which doubles with each failure
// in a row up to MaxBackoff. Having been ready for Reset starts the count afresh.
type Restart struct {
	Policy     RestartPolicy `json:"policy,omitempty"`      // empty means Always
	Backoff    Duration      `json:"backoff,omitempty"`     // 0 means 0.5 s
	MaxBackoff Duration      `json:"max_backoff,omitempty"` // 0 means 30 s
	Reset      Duration      `json:"reset,omitempty"`       // 0 means 60 s
	// Limit is the number of failures in a row from which the service is reported as
	// crash-looping (it is still tried, with pauses up to MaxBackoff); 0 means 5.
	Limit int `json:"limit,omitempty"`
}

// Stop is how a service ends: Signal to its main process, and SIGKILL to all that is left of it
// when Timeout has passed.
type Stop struct {
	Signal  string   `json:"signal,omitempty"`  // such as "SIGINT"; empty means SIGTERM
	Timeout Duration `json:"timeout,omitempty"` // 0 means 10 s
}

// Duration is a time.Duration that is written as in "1m30s".
type Duration time.Duration

// MarshalText writes d as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// String is the duration as time.Duration prints it.
func (d Duration) String() string { return time.Duration(d).String() }

// Or is d, or fallback when d is zero.
func (d Duration) Or(fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return time.Duration(d)
}

// maxFile bounds a specification file: far above any real one, far below what would hurt.
const maxFile = 1 << 20

// Load reads ConfigPath and all of ServicesDir from the root file system root, fills in defaults
// and validates the whole. Unknown fields are errors: they are mistakes of whoever wrote the file.
func Load(root fs.FS) (Config, error) {
	var c Config
	if err := readJSON(root, ConfigPath, &c); err != nil {
		return Config{}, err
	}
	entries, err := fs.ReadDir(root, inFS(ServicesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("list %s: %w", ServicesDir, err)
	}
	for _, e := range entries { // ReadDir sorts by name: the order is the same on every boot
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		var s Service
		if err := readJSON(root, path.Join(ServicesDir, e.Name()), &s); err != nil {
			return Config{}, err
		}
		c.Services = append(c.Services, s)
	}
	c.setDefaults()
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// inFS turns an absolute path into the form that package fs wants.
func inFS(name string) string { return strings.TrimPrefix(name, "/") }

// readJSON decodes the one JSON value in the named file of root into v.
func readJSON(root fs.FS, name string, v any) error {
	f, err := root.Open(inFS(name))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	b, err := bound.ReadAll(f, maxFile)
	if err == nil {
		err = strictjson.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// setDefaults replaces every zero field that has a documented default.
func (c *Config) setDefaults() {
	setDefault(&c.Path, DefaultPath)
	setDefault(&c.Data.Label, DataLabel)
	setDefault(&c.Data.Device, "/dev/vdb")
	setDefault(&c.Data.Path, DataPath)
	setDefault(&c.Data.Wait, Duration(5*time.Second))
	setDefault(&c.ConfigDisk, "/dev/vdc")
	setDefault(&c.Network.Driver, "virtio_net")
	setDefault(&c.Network.Wait, Duration(5*time.Second))
	setDefault(&c.Endpoint.Port, EndpointPort)
	setDefault(&c.OnFatal, PowerOff)
	setTmpfsDefaults(c.Tmpfs)
	for i := range c.Volumes {
		c.Volumes[i].setDefaults()
	}
	for i := range c.Services {
		c.Services[i].setDefaults()
	}
}

func (s *Service) setDefaults() {
	setDefault(&s.User, "root")
	setDefault(&s.Dir, "/")
	setTmpfsDefaults(s.Tmpfs)
	for i := range s.Directories {
		s.Directories[i].setDefaults()
	}
	for i := range s.Secrets {
		setDefault(&s.Secrets[i].Mode, "0400")
		setDefault(&s.Secrets[i].User, s.User)
	}
	for _, steps := range [][]Step{s.Prepare, s.PostReady} {
		for i := range steps {
			setDefault(&steps[i].User, s.User)
			setDefault(&steps[i].Timeout, Duration(5*time.Minute))
		}
	}
	setDefault(&s.Ready.Timeout, Duration(time.Minute))
	setDefault(&s.Restart.Policy, Always)
	setDefault(&s.Restart.Backoff, Duration(500*time.Millisecond))
	setDefault(&s.Restart.MaxBackoff, Duration(30*time.Second))
	setDefault(&s.Restart.Reset, Duration(time.Minute))
	setDefault(&s.Restart.Limit, 5)
	setDefault(&s.Stop.Signal, "SIGTERM")
	setDefault(&s.Stop.Timeout, Duration(10*time.Second))
}

func (d *Directory) setDefaults() {
	setDefault(&d.Mode, "0755")
	setDefault(&d.User, "root")
}

func setTmpfsDefaults(list []Tmpfs) {
	for i := range list {
		setDefault(&list[i].Mode, "0755")
		setDefault(&list[i].User, "root")
	}
}

// setDefault gives *v the value def if it has none.
func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
