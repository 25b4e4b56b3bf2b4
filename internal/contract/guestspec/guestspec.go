// Package guestspec describes a guest to its init: what PID 1 mounts, and which services it runs
// and how.
//
// A build writes one [Config] to [ConfigPath] and one [Service] per file into [ServicesDir];
// sov-init reads them back with [Load]. What is known only at the machine's start (addresses, time,
// secrets) is on the config disk, see package configdisk.
//
// The package has only data types and builds on every system, so that the build, the runner and the
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
	// DataLabel is the ext4 label of the data disk.
	DataLabel = "sov-data"
	// DataPath is where the data disk is mounted.
	DataPath = "/data"
	// ServicePostgres and ServiceTailscale are the names of the services with details in the
	// status.
	ServicePostgres, ServiceTailscale = "postgres", "tailscale"
	// ServicePooler is the name of the service that pools connections to PostgreSQL.
	ServicePooler = "pgbouncer"
	// DefaultPath is PATH for every process of the guest; the kernel does not set it for PID 1.
	DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// ExitPermanent is the exit status (EX_CONFIG of sysexits.h) of a step or a service that a
	// restart cannot help: the user has to act. The guest's status shows its last line of output as
	// the reason.
	ExitPermanent = 78
	// HostFile has the host's ID from the config disk.
	HostFile = "/run/sov-host"
	// MaxSecret is the largest secret, in bytes.
	MaxSecret = 64 << 10
	// SecretDataKey is the secret that opens an encrypted data disk, SecretOldDataKey the previous
	// one: a disk that only the old key opens is changed to the new key.
	SecretDataKey, SecretOldDataKey = "data-key", "data-key-old"
)

// Config is the image's configuration of its init.
type Config struct {
	Format int   `json:"format"` // always the constant Format
	Image  Image `json:"image"`  // what was built; reported by the status endpoint
	// Hostname is the default if the config disk does not set one.
	Hostname string `json:"hostname"`
	// Path is PATH for every process; empty means DefaultPath.
	Path string `json:"path,omitempty"`
	Data Data   `json:"data"`
	// ConfigDisk is the device that is checked first for the config disk, such as /dev/vdc. Other
	// devices are checked too.
	ConfigDisk string  `json:"config_disk,omitempty"`
	Network    Network `json:"network"`
	// Endpoint is the HTTP endpoint, on the address from the config disk.
	Endpoint Endpoint `json:"endpoint"`
	// Firewall lists additional incoming connections.
	Firewall Firewall `json:"firewall,omitzero"`
	// TimeServers are public NTP servers, by name or address, for guests whose host does not serve
	// the time.
	TimeServers []string `json:"time_servers,omitempty"`
	// Sysctls are the recipe's kernel settings, in addition to sov-init's.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Tmpfs are mounted at boot, in addition to /run, /tmp and /dev/shm, which every guest has.
	Tmpfs []Tmpfs `json:"tmpfs,omitempty"`
	// OnFatal says what PID 1 does after a fatal error; empty means PowerOff.
	OnFatal OnFatal `json:"on_fatal,omitempty"`
	// Volumes are additional disks, see Volume.
	Volumes []Volume `json:"volumes,omitempty"`
	// Services may be here or in ServicesDir, one per file.
	Services []Service `json:"services,omitempty"`
}

// Image names the build that the guest runs.
type Image struct {
	Name    string `json:"name"`    // the recipe, such as "sql"
	Version string `json:"version"` // shown in the status; updates compare it with the manifest
}

// Data describes the data disk. The guest checks and mounts it. It formats only an encrypted disk
// with the NewDiskMark.
type Data struct {
	// Label is the ext4 label of the disk; empty means DataLabel.
	Label string `json:"label,omitempty"`
	// Device is used if it has ext4 and no disk has the label; empty means /dev/vdb. A Volume does
	// not have it.
	Device string `json:"device,omitempty"`
	// Path is the mount point; empty means DataPath.
	Path string `json:"path,omitempty"`
	// Wait is how long the device may take to appear; 0 means 5 s.
	Wait Duration `json:"wait,omitempty"`
	// Encrypted says that the disk has LUKS2, which the secret SecretDataKey opens. Other disks are
	// not used then.
	Encrypted bool `json:"encrypted,omitempty"`
}

// Network says which interface gets the address from the config disk.
type Network struct {
	// Driver is the kernel driver of the interface; empty means virtio_net.
	Driver string `json:"driver,omitempty"`
	// Interface, if set, is the name of the interface; Driver is ignored then.
	Interface string `json:"interface,omitempty"`
	// Wait is how long the interface may take to appear; 0 means 5 s.
	Wait Duration `json:"wait,omitempty"`
}

// Endpoint describes the guest's HTTP endpoint.
type Endpoint struct {
	Port  uint16 `json:"port,omitempty"`  // 0 means EndpointPort
	Shell bool   `json:"shell,omitempty"` // clients may start shells and commands
}

// Firewall lists the accepted connections in addition to responses, ICMP, loopback traffic, and the
// endpoint's port from the gateway. Everything else is dropped.
type Firewall struct {
	Open []Opening `json:"open,omitempty"`
}

// An Opening accepts connections to one port.
type Opening struct {
	Protocol string `json:"protocol"` // TCP or UDP
	Port     uint16 `json:"port"`
	On       string `json:"on"` // OnLink or OnTailnet
	// From lists the accepted source prefixes, or FromSubnet; empty means all sources.
	From []string `json:"from,omitempty"`
	// PerSecond limits the new connections per second from other sources than the gateway, after a
	// burst of OpeningBurst. More are dropped, and TCP retries them. 0: no limit.
	PerSecond uint32 `json:"per_second,omitempty"`
	// Service is the name of the listening service for messages; may be empty.
	Service string `json:"service,omitempty"`
}

// OpeningBurst is the burst of connections of a limited Opening.
const OpeningBurst = 10

// Values of the fields of an Opening.
const (
	TCP, UDP = "tcp", "udp"
	// OnLink is the interface from Network, OnTailnet that of Tailscale.
	OnLink, OnTailnet = "link", "tailnet"
	// FromSubnet is the subnet of the address from the config disk.
	FromSubnet = "subnet"
)

// TailnetInterface is the name of tailscaled's interface.
const TailnetInterface = "tailscale0"

// OnFatal is what PID 1 does after a fatal error, after it has logged the reason and synced the
// disks.
type OnFatal string

// Values of OnFatal.
const (
	PowerOff OnFatal = "poweroff" // power off, so that the host notices
	Reboot   OnFatal = "reboot"   // start over
	Wait     OnFatal = "wait"     // stop, so that the console can be read
)

// Tmpfs is a file system in memory.
type Tmpfs struct {
	Path string `json:"path"`
	// Mode is four octal digits, such as "0700"; empty means "0755".
	Mode  string `json:"mode,omitempty"`
	User  string `json:"user,omitempty"`  // owner of its root; empty means root
	Group string `json:"group,omitempty"` // empty means the user's own group
	// Size is its limit: bytes, or a percentage of the machine's memory such as "25%"; empty means
	// the kernel's default, half of the memory.
	Size string `json:"size,omitempty"`
}

// Directory is created before a service is prepared, with missing parents (owned by root, mode
// 0755). An existing directory gets this owner and mode; its content is not changed.
type Directory struct {
	Path  string `json:"path"`
	Mode  string `json:"mode,omitempty"` // four octal digits; empty means "0755"
	User  string `json:"user,omitempty"`
	Group string `json:"group,omitempty"`
}

// Service is a process that the init supervises.
//
// A start consists of these steps: wait for After, create Directories, run Prepare, mount Tmpfs,
// start Command, wait for Ready, run PostReady. Then the service is ready and Alive is checked.
// When the process ends or Alive fails, its remaining processes are killed and Restart decides. A
// restart repeats all steps except After.
type Service struct {
	// Name consists of lower-case letters, digits and dashes. Logs and the status show it.
	Name    string   `json:"name"`
	Command []string `json:"command"` // program (absolute path) and arguments; no shell
	User    string   `json:"user,omitempty"`
	Group   string   `json:"group,omitempty"` // empty means the user's own group
	// Env is added to PATH, HOME, USER, LOGNAME and SHELL, which every service has.
	Env map[string]string `json:"env,omitempty"`
	// SecretEnv is also added: the value of each variable is the named secret.
	SecretEnv map[string]string `json:"secret_env,omitempty"`
	Dir       string            `json:"dir,omitempty"` // working directory; empty means /
	// After lists services that must be ready (or, with restart policy never, have ended
	// successfully) before the first start. They are stopped after this one.
	After []string `json:"after,omitempty"`
	// StartIf, if set, is checked once, before the first start: if it does not hold, the service is
	// off, and other services do not wait for it.
	StartIf     *StartIf    `json:"start_if,omitempty"`
	Directories []Directory `json:"directories,omitempty"`
	// Secrets are written to files in memory once, before any service starts. A service fails if
	// one of its secrets is not on the config disk.
	Secrets []SecretFile `json:"secrets,omitempty"`
	// Certificate is the path of a file in memory, in its own directory below SecretsRoot, with the
	// machine's certificate and key in PEM. Only the service's user can read it. It exists before
	// any service starts. The service gets SIGHUP when it is replaced.
	Certificate string `json:"certificate,omitempty"`
	// TailnetCertificate makes that file hold the certificate that tailscaled orders for the node's
	// name, while there is one.
	TailnetCertificate bool   `json:"tailnet_certificate,omitempty"`
	Prepare            []Step `json:"prepare,omitempty"` // in order; a failing one counts as a failed start
	// Tmpfs are mounted after Prepare and stay mounted across restarts.
	Tmpfs []Tmpfs `json:"tmpfs,omitempty"`
	Ready Ready   `json:"ready"`
	// PostReady runs in order after Ready holds. Failing steps are repeated while the service runs;
	// the service is ready only after they succeed.
	PostReady []Step `json:"post_ready,omitempty"`
	// Alive is checked while the service is ready; may be nil.
	Alive *Alive `json:"alive,omitempty"`
	// Schedule (see package schedule) makes the service run to its end at these times. It then has
	// neither Ready nor PostReady nor Alive, and Restart is ignored.
	Schedule    string  `json:"schedule,omitempty"`
	LogSize     int64   `json:"log_size,omitempty"` // of its log on the data disk, in bytes; 0 means 2 MiB
	Restart     Restart `json:"restart"`
	Stop        Stop    `json:"stop"`
	OOMScoreAdj int     `json:"oom_score_adj,omitempty"` // -1000 (never killed) to 1000 (first)
	Rights      Rights  `json:"rights,omitzero"`
	Limits      Limits  `json:"limits,omitzero"`
	Backup      *Backup `json:"backup,omitempty"` // nil: backups do not include its data
	// Upgrade is the command of StepUpgrade without --do, which runs as root. Only for
	// ServicePostgres.
	Upgrade []string `json:"upgrade,omitempty"`
}

// Backup describes the data of a service in backups. Its programs run with the service's user and
// confinement.
type Backup struct {
	Command []string `json:"command,omitempty"` // writes the data to its standard output while the service runs
	Restore []string `json:"restore,omitempty"` // reads what Command wrote from its standard input, likewise
	// Paths are files and directories on the data disk and the volumes, none inside another.
	// Without Command the service is stopped while they are read. It is always stopped while they
	// are replaced.
	Paths []string `json:"paths,omitempty"`
	// Asked includes the data only if the caller requests the machine's identity, which must not
	// exist twice.
	Asked bool `json:"asked,omitempty"`
}

// RestoreDir is the directory for staged data of a restore, on the data disk and on each volume,
// below one of Config.Roots.
const RestoreDir = ".sov-restore"

// CertificateDir is the directory on the data disk, below Data.Path, with the machine's certificate
// authority.
const CertificateDir = ".sov-tls"

// SecretFile is a secret of the config disk in a file that is hidden from other services.
type SecretFile struct {
	Secret string `json:"secret"`
	Path   string `json:"path"`           // below SecretsRoot, outside every service's Directories
	Mode   string `json:"mode,omitempty"` // four octal digits; empty means "0400"
	User   string `json:"user,omitempty"` // empty means the service's user
}

// SecretsRoot is in memory. Only root can create files in it.
const SecretsRoot = "/run/"

// StartIf holds if one of its conditions does.
type StartIf struct {
	Secret string `json:"secret,omitempty"` // on the config disk
	File   string `json:"file,omitempty"`   // exists and is not empty
}

// Step is a command that runs to its end before or after a service's start.
type Step struct {
	Command []string `json:"command"`
	User    string   `json:"user,omitempty"` // empty means the service's user
	// Secret names a secret of the config disk, which the step reads from its standard input (never
	// from arguments or the environment). If the disk does not have the secret, the step is skipped
	// or, with SecretOptional, its standard input is empty.
	Secret         string   `json:"secret,omitempty"`
	SecretOptional bool     `json:"secret_optional,omitempty"`
	Timeout        Duration `json:"timeout,omitempty"` // 0 means 5 min; the step is killed then
	// Unconfined steps have the rights of sov-init, others those of their service. Only programs
	// that the build itself adds to the image may be unconfined.
	Unconfined bool `json:"unconfined,omitempty"`
}

// Ready describes the readiness check of a started service. At most one of the first five fields is
// set. Without one, a service is ready after it has run as long as the pause before its next start
// would be, so that one that exits at once is never ready; a service with restart policy never is
// ready after it has ended successfully.
type Ready struct {
	// HTTP is a URL that answers a GET with a status from 200 to 399. Redirects are not followed,
	// and certificates are not verified, because the service runs on the same machine.
	HTTP string `json:"http,omitempty"`
	TCP  string `json:"tcp,omitempty"`  // HOST:PORT accepts a connection
	Unix string `json:"unix,omitempty"` // the socket at this path accepts a connection
	// Postgres is HOST:PORT, or the path of a socket, where a PostgreSQL server answers a startup
	// message with anything but "the database system is starting up". With a socket, the server is
	// not probed before its postmaster.pid says that it is ready, so that it does not log that
	// response.
	Postgres string   `json:"postgres,omitempty"`
	Command  []string `json:"command,omitempty"` // exits 0, run as the service's user
	// Timeout is the time after which a service that is not ready is reported as late; 0 means 60
	// s. It is not killed: otherwise a database that replays a long WAL could never start.
	Timeout Duration `json:"timeout,omitempty"`
	// Interval is the time between checks; 0 means from 20 ms to 250 ms.
	Interval Duration `json:"interval,omitempty"`
}

// Checks reports whether r has a check.
func (r Ready) Checks() bool {
	return r.HTTP != "" || r.TCP != "" || r.Unix != "" || r.Postgres != "" || len(r.Command) > 0
}

// Alive is a check of a ready service: one of the first five fields of Ready. Timeout is that of
// each check, Interval the time between them.
type Alive struct {
	Ready
	Failures int `json:"failures"` // consecutive failures after which the service is stopped, as if it had failed
}

// RestartPolicy says after which ends a service is restarted.
type RestartPolicy string

// Restart policies. Whatever the policy, nothing is restarted during shutdown or after
// ExitPermanent.
const (
	Always    RestartPolicy = "always"
	OnFailure RestartPolicy = "on-failure" // any end except exit status 0
	Never     RestartPolicy = "never"      // a task that runs once each boot
)

// Restart describes how an ended service is restarted: after Backoff, which doubles with each
// consecutive failure up to MaxBackoff. Being ready for Reset resets the count.
type Restart struct {
	Policy     RestartPolicy `json:"policy,omitempty"`      // empty means Always
	Backoff    Duration      `json:"backoff,omitempty"`     // 0 means 0.5 s
	MaxBackoff Duration      `json:"max_backoff,omitempty"` // 0 means 30 s
	Reset      Duration      `json:"reset,omitempty"`       // 0 means 60 s
	// Limit is the number of consecutive failures after which the service is reported as
	// crash-looping (it is still restarted, with pauses up to MaxBackoff); 0 means 5.
	Limit int `json:"limit,omitempty"`
}

// Stop describes how a service is stopped: Signal to its main process, and after Timeout SIGKILL to
// all its processes.
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

// maxFile is the largest specification file, in bytes, far above any real one.
const maxFile = 1 << 20

// Load reads ConfigPath and all files in ServicesDir from the root file system root, sets defaults
// and validates the result. Unknown fields are errors.
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
