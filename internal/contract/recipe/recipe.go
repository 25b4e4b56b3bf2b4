// Package recipe reads the YAML file that describes a virtual machine: base image, packages, users,
// services, PostgreSQL's settings, memory, network. docs/recipe.md documents the keys.
//
// Reading is strict, and every fault is reported with its line and column. A Recipe returned
// without an error is complete: it has all defaults, and stages need not check it again. The
// package does not know how a recipe is built.
package recipe

import (
	"fmt"
	"regexp"

	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A Recipe is a whole recipe file.
type Recipe struct {
	Name        string      `yaml:"name"`        // names the artifact and its folder
	Version     string      `yaml:"version"`     // of the artifact, free form
	Description string      `yaml:"description"` // one line for people
	Base        Base        `yaml:"base"`
	Packages    Packages    `yaml:"packages"`
	Copy        []Copy      `yaml:"copy"`
	Files       []File      `yaml:"files"`
	Go          []GoProgram `yaml:"go"`
	Users       []User      `yaml:"users"`
	Groups      []Group     `yaml:"groups"`
	Directories []Directory `yaml:"directories"`
	Volumes     []Volume    `yaml:"volumes"`
	Tailscale   Tailscale   `yaml:"tailscale"`
	Postgres    Postgres    `yaml:"postgres"`
	Services    []Service   `yaml:"services"`
	VM          VM          `yaml:"vm"`
	Network     Network     `yaml:"network"`
	Kernel      Kernel      `yaml:"kernel"`
	Rootfs      Rootfs      `yaml:"rootfs"`
	CVEs        CVEs        `yaml:"cves"`
	// Declared lists the secrets that are not derived from other keys; Secrets returns all.
	Declared []Secret `yaml:"secrets"`

	// Keys that Compose resolves. Afterwards Extends is empty, and ByArch and Profiles have the
	// keys of all files.
	Extends  string   `yaml:"extends"`  // a built-in recipe, or a path relative to the file's folder
	ByArch   overlays `yaml:"by_arch"`  // overrides for an architecture
	Profiles overlays `yaml:"profiles"` // optional overrides

	// Dir is the folder of the recipe's file, for relative sources; empty for a recipe without a
	// file.
	Dir string `yaml:"-"`
	// Links are the links that WithImage makes for the image's volumes.
	Links []Link `yaml:"-"`

	doc *strictyaml.Document // for the positions of values; nil if it was not parsed
}

// Errorf returns an error about the value at path, such as "vm.memory", with its position, like the
// errors of Parse.
func (r *Recipe) Errorf(path, format string, args ...any) error {
	if r.doc == nil {
		return fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...))
	}
	return r.doc.Errorf(path, format, args...)
}

// A Link is a symbolic link in the root file system that replaces an empty directory.
type Link struct{ Path, Target string }

// Base is the base image.
type Base struct {
	// Image is a reference of package oci: in a registry by tag or digest, an OCI
	// layout, or a tarball.
	Image string `yaml:"image"`
}

// Packages are Alpine packages added to the base.
type Packages struct {
	Repositories []string          `yaml:"repositories"` // URLs or paths that hold ARCH/APKINDEX.tar.gz
	Keys         map[string]string `yaml:"keys"`         // more trusted keys: file name to PEM public key
	Install      []string          `yaml:"install"`      // names with optional constraints, as in /etc/apk/world
	// Scripts are glob patterns of packages whose maintainer scripts need not run, because the
	// recipe's users, groups and directories replace them.
	Scripts []string `yaml:"scripts"`
}

// A Copy copies a file or a directory from another image. The copy belongs to root.
type Copy struct {
	From string `yaml:"from"` // a reference, as Base.Image
	Path string `yaml:"path"` // in that image
	To   string `yaml:"to"`   // in this one; empty: Path
}

// A File is put into the root file system. One of Content, Source and URL is given.
type File struct {
	Path    string  `yaml:"path"`
	Content *string `yaml:"content"` // the text itself
	Source  string  `yaml:"source"`  // a path, relative to the recipe's folder
	URL     string  `yaml:"url"`
	SHA256  string  `yaml:"sha256"` // of what URL has, 64 hexadecimal digits
	Mode    Mode    `yaml:"mode"`   // absent: 0644
	Owner   string  `yaml:"owner"`  // user name; empty: root
	Group   string  `yaml:"group"`  // group name; empty: the owner's
}

// Where returns the source of the content: a URL, or a path as in the recipe. It is empty for
// content in the recipe.
func (f File) Where() string { return f.URL + f.Source }

// CopiedImages are the images that files are copied from, each once.
func (r *Recipe) CopiedImages() []string {
	var images []string
	for _, c := range r.Copy {
		images = addOnce(images, c.From)
	}
	return images
}

// A Group is added to /etc/group unless the name exists.
type Group struct {
	Name string `yaml:"name"`
	GID  int    `yaml:"gid"`
}

// A User is added to /etc/passwd and /etc/shadow, without a password, unless the name exists. Its
// group is also added.
type User struct {
	Name  string `yaml:"name"`
	UID   int    `yaml:"uid"`
	GID   int    `yaml:"gid"`
	Group string `yaml:"group"` // name of the primary group; empty: the user's name
	Home  string `yaml:"home"`  // empty: "/"
	Shell string `yaml:"shell"` // empty: "/sbin/nologin"
	Gecos string `yaml:"gecos"` // the comment field
}

// A Directory is created in the root file system, or gets its owner and mode.
type Directory struct {
	Path  string `yaml:"path"`
	Mode  Mode   `yaml:"mode"`  // absent: 0755
	Owner string `yaml:"owner"` // user name; empty: root
	Group string `yaml:"group"` // group name; empty: the owner's
}

// Tailscale configures the machine's node on a tailnet.
type Tailscale struct {
	Enabled     bool     `yaml:"enabled"`
	Hostname    string   `yaml:"hostname"`     // name on the tailnet; empty: network.hostname
	LoginServer string   `yaml:"login_server"` // URL of the control server; empty: Tailscale's own
	Tags        []string `yaml:"tags"`         // "tag:NAME", requested when the node registers
	Ephemeral   bool     `yaml:"ephemeral"`    // does not store its state: each boot is a new, ephemeral node
}

// Postgres describes the PostgreSQL service.
type Postgres struct {
	Enabled   bool      `yaml:"enabled"`
	User      string    `yaml:"user"`      // system user that runs it
	Data      string    `yaml:"data"`      // cluster directory, below /data
	Listen    []string  `yaml:"listen"`    // addresses, or "*"
	Port      int       `yaml:"port"`      // TCP port
	Collation Collation `yaml:"collation"` // how text sorts in new clusters
	// Networks may connect with a password: CIDR prefixes, "tap" for the
	// machine's own subnet, "tailnet" for Tailscale's ranges.
	Networks []string `yaml:"networks"`
	// Superuser is where the role postgres may log in from over the network; empty means
	// SuperuserAnywhere, for compatibility.
	Superuser string `yaml:"superuser"`
	// ConnectRate limits the new connections per second from each of Networks, except from the
	// host; 0: no limit.
	ConnectRate int                `yaml:"connect_rate"`
	Roles       []Role             `yaml:"roles"` // in addition to postgres, the superuser
	TLS         TLS                `yaml:"tls"`   // the server's certificate
	Extensions  []Extension        `yaml:"extensions"`
	Pooler      Pooler             `yaml:"pooler"`
	Settings    map[string]Setting `yaml:"settings"` // postgresql.conf
	// Major is the major version of the server; 0: that of the lock, or the newest without a lock.
	Major int `yaml:"major"`
	// UpgradeFrom is a second major version in the image, whose clusters are upgraded; 0: none.
	UpgradeFrom int `yaml:"upgrade_from"`
}

// Values of Postgres.Superuser, in addition to the guest's own socket.
const (
	SuperuserHost     = "host"     // the address of network.host
	SuperuserAnywhere = "anywhere" // all of postgres.networks
)

// A Role may log in with the password in the secret "role-NAME".
type Role struct {
	Name      string `yaml:"name"`
	Database  string `yaml:"database"`  // created if it does not exist; empty: the role's name
	Superuser bool   `yaml:"superuser"` // may do everything
}

// A Collation is a choice of PostgreSQL's locale provider.
type Collation string

// Collations. Auto is the best that the server supports: builtin from PostgreSQL 17, ICU in 15 and
// 16, else libc, which on musl means C.
const (
	CollationAuto    Collation = "auto"
	CollationBuiltin Collation = "builtin"
	CollationICU     Collation = "icu"
	CollationLibc    Collation = "libc"
)

// localeForm matches language tags (BCP 47, section 2.1) that affect ICU's sorting: language,
// script, region, variants, and extensions such as -u-kn-true.
var localeForm = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{1,8})*$`)

// Locale returns a collation's ICU locale, if it is one: "de", "en-US", "und-u-kn-true".
func (c Collation) Locale() (string, bool) {
	return string(c), c != CollationICU && localeForm.MatchString(string(c))
}

// A Service is a program that the guest's init supervises.
type Service struct {
	Name        string              `yaml:"name"`
	Command     Command             `yaml:"command"`     // or "image": the base image's command, see WithImage
	User        string              `yaml:"user"`        // empty: root
	Group       string              `yaml:"group"`       // empty: the user's
	Environment map[string]Variable `yaml:"environment"` // added to PATH and HOME
	Secrets     []SecretFile        `yaml:"secrets"`     // files in memory
	Directory   string              `yaml:"directory"`   // working directory; empty: "/"
	After       []string            `yaml:"after"`       // services that must be ready first
	Prepare     []Step              `yaml:"prepare"`     // commands run before each start
	PostReady   []Step              `yaml:"post_ready"`  // and once it is ready
	Schedule    string              `yaml:"schedule"`    // runs at these times instead of continuously, see package schedule
	Alive       *Alive              `yaml:"alive"`
	Log         Log                 `yaml:"log"`
	Ready       Ready               `yaml:"ready"`
	Restart     Restart             `yaml:"restart"`
	Stop        Stop                `yaml:"stop"`
	OOMScore    *int                `yaml:"oom_score_adj"` // -1000 to 1000; absent: 200
	// Directories below /data and /run and on volumes are created before each start, by default
	// with the service's user as owner. The service may write only these. If absent, it may write
	// everything on the data disk and the volumes that does not belong to another service.
	Directories  []Directory `yaml:"directories"`
	Capabilities []string    `yaml:"capabilities"` // kept, as in "net_bind_service"
	Devices      []string    `yaml:"devices"`      // paths in /dev
	Limits       Limits      `yaml:"limits"`
	Backup       *Backup     `yaml:"backup"` // absent: sov backup does not include the service
}

// Limits are the resource limits of all processes of a service together.
type Limits struct {
	Memory    Size `yaml:"memory"`    // absent: half of the machine's
	Processes int  `yaml:"processes"` // and threads; absent: 512
	CPU       int  `yaml:"cpu"`       // percent of one processor; absent: a fair share of all
	Files     int  `yaml:"files"`     // that each process has open; absent: 1024 at first, 4096 at most
	// Rlimits are further limits of each process, by the names of guestspec.RlimitNames.
	Rlimits map[string]Size `yaml:"rlimits"`
}

// Ready is a service's readiness check. At most one of HTTP, TCP, Unix and Command is set; without
// one, the service is ready after it has run for a while.
type Ready struct {
	HTTP     string   `yaml:"http"`     // URL that answers with a status from 200 to 399
	TCP      string   `yaml:"tcp"`      // address that accepts connections, "127.0.0.1:80"
	Unix     string   `yaml:"unix"`     // socket that accepts connections
	Command  []string `yaml:"command"`  // exits 0
	Interval Duration `yaml:"interval"` // between checks; absent: from 20ms to 250ms
	Timeout  Duration `yaml:"timeout"`  // absent: 1m
}

// Restart is the restart policy of a service.
type Restart struct {
	Policy  string   `yaml:"policy"`  // "always", "on-failure" or "never"; empty: always
	Backoff Duration `yaml:"backoff"` // first pause, doubled each time; absent: 1s
}

// Stop says how to stop a service.
type Stop struct {
	Signal  string   `yaml:"signal"`  // "SIGTERM" and the like; empty: SIGTERM
	Timeout Duration `yaml:"timeout"` // until SIGKILL; absent: 10s
}

// VM is the size of the virtual machine.
type VM struct {
	Memory Size `yaml:"memory"` // whole MiB
	CPUs   int  `yaml:"cpus"`
	Data   Size `yaml:"data"` // initial size of the data disk
	// Encrypt enables encryption of the data disk. DataKey is where the key of encrypted disks is
	// stored: "phone" or "host".
	Encrypt bool   `yaml:"encrypt"`
	DataKey string `yaml:"data_key"`
	// Awake says when the running machine prevents the phone from sleeping: "always", "charging" or
	// "never".
	Awake string `yaml:"awake"`
	// Sysctl are settings of the guest's kernel, as sysctl(8) names them.
	Sysctl map[string]Setting `yaml:"sysctl"`
	Ready  MachineReady       `yaml:"ready"`
	Shell  bool               `yaml:"shell"` // sov exec and sov shell may start commands in the guest; absent: true
	// Options for phones, with defaults of the phone.
	Hypervisor string `yaml:"hypervisor"` // "kvm", "geniezone" or "gunyah"
	Protection string `yaml:"protection"` // "none", "protected" or "protected-without-firmware"
	Swiotlb    Size   `yaml:"swiotlb"`    // whole MiB of memory for I/O of a protected guest
	Balloon    *bool  `yaml:"balloon"`    // the guest returns unused memory; absent: unless it is protected
	HugePages  bool   `yaml:"huge_pages"` // the guest's memory is backed by huge pages
}

// Places where the key of an encrypted data disk is kept.
const (
	DataKeyOnPhone = "phone"
	DataKeyOnHost  = "host"
)

// Options returns the recipe's options for the phone's hypervisor.
func (v VM) Options() avf.Options {
	return avf.Options{Hypervisor: avf.Hypervisor(v.Hypervisor), Protection: avf.Protection(v.Protection), SwiotlbMiB: int(v.Swiotlb / MiB),
		Balloon: v.Balloon, HugePages: v.HugePages}
}

// Routing modes of a phone; docs/networking.md has diagrams.
const (
	RoutingAuto      = "auto"
	RoutingMainFirst = "main-first"
	RoutingScoped    = "scoped"
)

// Values of Network.Egress.
const (
	EgressLAN   = "lan"
	EgressPhone = "phone"
)

// Network is the link between host and guest.
type Network struct {
	Hostname string    `yaml:"hostname"` // the guest's; empty: the recipe's name
	TAP      string    `yaml:"tap"`      // host interface
	Host     string    `yaml:"host"`     // host address with prefix length
	Guest    string    `yaml:"guest"`    // guest address in the same subnet
	MTU      int       `yaml:"mtu"`      // bytes
	DNS      []string  `yaml:"dns"`      // name servers of the guest
	Time     []string  `yaml:"time"`     // public NTP servers, if the host does not serve the time
	Publish  []Publish `yaml:"publish"`  // ports of the guest for sov, peers, the tailnet and Forward
	Forward  []int     `yaml:"forward"`  // ports in Publish, by the guest's number, that the phone also forwards at its own address
	Phone    []int     `yaml:"phone"`    // TCP ports of the guest that the phone's apps may reach
	Egress   []string  `yaml:"egress"`   // what the guest may reach in addition to the internet: "lan", "phone"
	Routing  string    `yaml:"routing"`  // "auto", "scoped" or "main-first"; empty: that of the installed machine, or "auto"
	Peers    []string  `yaml:"peers"`    // other machines whose guests may communicate with this one
	Group    string    `yaml:"group"`    // all machines of a phone with the same group are peers; may be empty

	// After lists machines of the group that must be ready before this one, from a group file, see
	// Join.
	After []string `yaml:"-"`
	// AddressUnset says that the recipe sets neither Host nor Guest: a phone chooses them.
	AddressUnset bool `yaml:"-"`
}

// Kernel configures the guest's kernel.
type Kernel struct {
	Source     string   `yaml:"source"`     // URL, "deb:NAME" or path of the source; empty: the default order
	Parameters []string `yaml:"parameters"` // appended to the kernel command line
}

// CVEs configures the check for known vulnerabilities.
type CVEs struct {
	Ignore []IgnoredCVE `yaml:"ignore"`
}

// An IgnoredCVE is a vulnerability that does not apply to the machine.
type IgnoredCVE struct {
	ID     string `yaml:"id"`     // the database's ID or an alias
	Reason string `yaml:"reason"` // why it does not apply, on one line
	Until  string `yaml:"until"`  // the last day, YYYY-MM-DD; empty: no end
}

// Rootfs configures the root file system image.
type Rootfs struct {
	Label string `yaml:"label"` // at most 16 bytes; empty: the recipe's name
	Free  Size   `yaml:"free"`  // free space, for images that will be written
}
