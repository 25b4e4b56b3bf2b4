package recipe

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// Words in Postgres.Networks, in addition to prefixes.
const (
	NetworkTAP     = "tap"     // the subnet of network.host
	NetworkTailnet = "tailnet" // guestspec.Tailnet4 and Tailnet6
	NetworkPeers   = "peers"   // vmspec.Pools; the phone admits only the peers' networks
)

var (
	accountForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	packageForm = regexp.MustCompile(`^!?[a-zA-Z0-9][a-zA-Z0-9+._:/-]*(@[a-zA-Z0-9_.-]+)?([<>=~]{1,2}[0-9][a-zA-Z0-9._-]*)?$`)
)

// maxLabel is the size of s_volume_name in ext4's superblock, in bytes.
const maxLabel = 16

// mountpoints are the guest's mount points, which hide the image's files below them.
var mountpoints = []string{"/data", "/dev", "/proc", "/run", "/sys", "/tmp"}

// check records the semantic errors in doc.
func check(r *Recipe, doc *strictyaml.Document) {
	c := checker{r, doc}
	c.identity()
	c.packages()
	c.copies()
	c.files()
	c.goPrograms()
	c.accounts()
	c.directories()
	c.volumes()
	c.tailscale()
	c.postgres()
	c.secrets()
	c.services()
	c.machine()
	c.machineLife()
	c.network()
	c.cves()
}

type checker struct {
	*Recipe
	doc *strictyaml.Document
}

// require records a fault of the value at path unless ok.
func (c *checker) require(ok bool, path, format string, args ...any) {
	if !ok {
		c.doc.Faultf(path, format, args...)
	}
}

// check records err, if not nil, as a fault of the value at path.
func (c *checker) check(path string, err error) {
	if err != nil {
		c.doc.Faultf(path, "%v", err)
	}
}

func (c *checker) identity() {
	c.check("name", artifact.CheckName(c.Name))
	c.require(c.Version != "" && plain(c.Version), "version", "must be one line of text")
	c.require(plain(c.Description), "description", "must be one line of text")
	c.require(c.Base.Image != "", "base.image", "is missing; name an image, such as docker.io/library/alpine:3.22")
	c.require(len(c.Rootfs.Label) <= maxLabel, "rootfs.label", "%q is longer than the %d bytes that ext4 has for it", c.Rootfs.Label, maxLabel)
}

func (c *checker) packages() {
	p := c.Packages
	for i, repository := range p.Repositories {
		at := strictyaml.Index("packages.repositories", i)
		if err := CheckRepository(repository); err != nil {
			c.doc.Faultf(at, "%v", err)
		}
	}
	for i, name := range p.Install {
		c.require(packageForm.MatchString(name), strictyaml.Index("packages.install", i),
			"%q is not a package; write a name with an optional constraint, such as postgresql17 or icu-libs>=74", name)
	}
	c.tags()
	c.require(len(p.Install) == 0 || len(p.Repositories) > 0, "packages.install", "there are packages to install and no repositories to take them from")
	for i, pattern := range p.Scripts {
		_, err := path.Match(pattern, "")
		c.require(err == nil, strictyaml.Index("packages.scripts", i), "%q is not a glob pattern", pattern)
	}
	for name, pem := range p.Keys {
		at := strictyaml.Join("packages.keys", name)
		c.require(strings.HasSuffix(name, ".rsa.pub") && path.Base(name) == name, at, "a key is named as the index names its signer, NAME.rsa.pub")
		c.require(strings.Contains(pem, "BEGIN PUBLIC KEY"), at, "is not a PEM public key")
	}
}

// CheckRepository returns an error if a string is not valid as a package repository.
func CheckRepository(repository string) error {
	tag, repository := RepositoryTag(repository)
	if tag != "" && !tagOfRepository.MatchString(tag) {
		return fmt.Errorf("%q is not a tag; write one such as @edge, a space and the repository", "@"+tag)
	}
	if strings.HasSuffix(repository, ".adb") {
		return errors.New("is an index of apk version 3 (ADB), which is not supported: name a repository with an APKINDEX.tar.gz, as Alpine's own are")
	}
	scheme, _, isURL := strings.Cut(repository, "://")
	if repository == "" || !plain(repository) {
		return errors.New("is empty or has control characters")
	}
	if !isURL {
		return nil
	}
	if scheme != "https" && scheme != "http" {
		return fmt.Errorf("%s:// is not supported; use https, http or a path", scheme)
	}
	u, err := url.Parse(repository)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is not a URL", repository)
	}
	if u.User != nil || u.RawQuery != "" {
		return errors.New("has a user name, password or query in it, which the lock and the manifest would publish")
	}
	return nil
}

func (c *checker) copies() {
	for i, f := range c.Copy {
		at := strictyaml.Index("copy", i)
		c.require(f.From != "" && plain(f.From), at+".from", "must name an image, such as docker.io/vaultwarden/server:1.34.3-alpine")
		c.require(cleanAbsolute(f.Path), at+".path", "%q is not a clean absolute path", f.Path)
		if cleanAbsolute(f.Path) || f.To != f.Path {
			c.destination(at+".to", f.To)
		}
	}
}

// ofBuild lists the paths in the image that the build writes for sov-init.
var ofBuild = []string{"/sbin/sov-init", path.Dir(guestspec.ConfigPath)}

// placed checks the path of a file of the recipe: it must be allowed, unique, and not one of the
// build's.
func (c *checker) placed(at, name string, seen map[string]bool, twice string) {
	c.destination(at, name)
	c.require(!seen[name], at, "%q is %s", name, twice)
	seen[name] = true
	for _, own := range ofBuild {
		c.require(name != own && !strings.HasPrefix(name, own+"/"), at, "%q is the build's own", name)
	}
}

func (c *checker) files() {
	seen := map[string]bool{}
	for i, f := range c.Files {
		at := strictyaml.Index("files", i)
		c.placed(at+".path", f.Path, seen, "listed twice")
		ways := 0
		for _, given := range []bool{f.Content != nil, f.Source != "", f.URL != ""} {
			if given {
				ways++
			}
		}
		c.require(ways == 1, at, "give one of content, source and url")
		c.require(plain(f.Source), at+".source", "must be one line of text")
		if f.URL != "" {
			u, err := url.Parse(f.URL)
			c.require(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", at+".url", "%q is not a URL of http or https", f.URL)
			c.require(sha256Form.MatchString(f.SHA256), at+".sha256", "must be the 64 hexadecimal digits that sha256sum prints for the file")
		} else {
			c.require(f.SHA256 == "", at+".sha256", "goes with url; the lock has the digest of source")
		}
	}
}

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// destination checks a path in the root file system.
func (c *checker) destination(at, to string) {
	c.require(cleanAbsolute(to), at, "%q is not a clean absolute path", to)
	if m := MountedOver(to); m != "" {
		c.doc.Faultf(at, "the guest mounts over %s, so %q would never be seen", m, to)
	}
	if v := c.volumeAt(to); v != nil {
		c.doc.Faultf(at, "the guest mounts volume %s over %s, so %q would never be seen", v.Name, v.Path, to)
	}
}

func (c *checker) accounts() {
	seen := map[string]bool{}
	for i, g := range c.Groups {
		at := strictyaml.Index("groups", i)
		c.require(accountForm.MatchString(g.Name), at+".name", "%q is not a group name", g.Name)
		c.require(validID(g.GID), at+".gid", "%d is not a group id", g.GID)
		c.require(!seen[g.Name], at+".name", "group %q is listed twice", g.Name)
		seen[g.Name] = true
	}
	clear(seen)
	for i, u := range c.Users {
		at := strictyaml.Index("users", i)
		c.require(accountForm.MatchString(u.Name), at+".name", "%q is not a user name", u.Name)
		c.require(accountForm.MatchString(u.Group), at+".group", "%q is not a group name", u.Group)
		c.require(validID(u.UID), at+".uid", "%d is not a user id", u.UID)
		c.require(validID(u.GID), at+".gid", "%d is not a group id", u.GID)
		c.require(!seen[u.Name], at+".name", "user %q is listed twice", u.Name)
		for field, value := range map[string]string{"home": u.Home, "shell": u.Shell, "gecos": u.Gecos} {
			c.require(plain(value) && !strings.Contains(value, ":"), strictyaml.Join(at, field), "is not allowed in /etc/passwd: it has a colon or a control character")
		}
		seen[u.Name] = true
	}
}

func (c *checker) directories() {
	for i, d := range c.Directories {
		at := strictyaml.Index("directories", i)
		c.destination(at+".path", d.Path)
	}
}

func (c *checker) machine() {
	vm := c.VM
	c.require(vm.Memory%MiB == 0 && vm.Memory >= 128*MiB && vm.Memory <= TiB, "vm.memory", "%s is not a whole number of MiB from 128MiB to 1TiB", vm.Memory)
	c.require(vm.CPUs >= 1 && vm.CPUs <= 64, "vm.cpus", "%d is not between 1 and 64", vm.CPUs)
	c.require(vm.Data%MiB == 0 && vm.Data >= 256*MiB && vm.Data <= 16*TiB, "vm.data", "%s is not a whole number of MiB from 256MiB to 16TiB", vm.Data)
	c.require(vm.Swiotlb%MiB == 0, "vm.swiotlb", "%s is not a whole number of MiB", vm.Swiotlb)
	c.check("vm", vm.Options().Validate())
	c.require(vm.DataKey == "" || c.Encrypts(), "vm.data_key", "says where the key of encrypted disks is kept, and vm.encrypt is not true, nor encrypted of a volume")
	c.require(slices.Contains([]string{"", DataKeyOnPhone, DataKeyOnHost}, vm.DataKey), "vm.data_key", "%q must be %s or %s", vm.DataKey, DataKeyOnPhone, DataKeyOnHost)
	c.require(slices.Contains([]string{"always", "charging", "never"}, vm.Awake), "vm.awake", "%q must be always, charging or never", vm.Awake)
	c.require(c.Rootfs.Free >= 0 && c.Rootfs.Free <= 16*TiB, "rootfs.free", "%s is more than an image can hold", c.Rootfs.Free)
	for i, parameter := range c.Kernel.Parameters {
		at := strictyaml.Index("kernel.parameters", i)
		key, _, _ := strings.Cut(parameter, "=")
		c.require(parameter != "" && plain(parameter) && !strings.ContainsAny(parameter, " \""), at, "%q must be a single parameter, without spaces or quotes", parameter)
		key = strings.ReplaceAll(key, "_", "-") // the kernel accepts both
		c.require(!slices.Contains([]string{"root", "ro", "rw", "rootfstype", "init", "dm-mod.create"}, key), at, "%s is set by the build", key)
	}
}

func (c *checker) network() {
	n := c.Network
	// A host name that is derived from another key was checked there.
	c.require(n.Hostname == hostnameOf(c.Name) || guestspec.ValidHostname(n.Hostname), "network.hostname", "%q is not a host name: letters, digits and hyphens, at most 63", n.Hostname)
	c.check("network.tap", artifact.CheckInterface(n.TAP))
	c.require(n.MTU >= 1280 && n.MTU <= 65521, "network.mtu", "%d is not between 1280 and 65521", n.MTU)
	host, err := netip.ParsePrefix(n.Host)
	if err != nil || !host.Addr().Is4() || host.Bits() > 30 || host.Addr() == host.Masked().Addr() {
		c.doc.Faultf("network.host", "%q is not an IPv4 address with its prefix length, such as 192.168.100.1/24", n.Host)
	} else if guest, err := netip.ParseAddr(n.Guest); err != nil || !host.Contains(guest) || guest == host.Addr() || guest == host.Masked().Addr() {
		c.doc.Faultf("network.guest", "%q is not another address of %s", n.Guest, host.Masked())
	}
	for i, server := range n.DNS {
		_, err := netip.ParseAddr(server)
		c.require(err == nil, strictyaml.Index("network.dns", i), "%q is not an address", server)
	}
	for i, server := range n.Time {
		c.require(guestspec.ValidServer(server), strictyaml.Index("network.time", i), "%q is neither a host name nor an address", server)
	}
	c.published()
	c.group()
	for i, port := range n.Phone {
		at := strictyaml.Index("network.phone", i)
		c.require(validPort(port), at, "%d is not a port", port)
		c.require(slices.Index(n.Phone, port) == i, at, "port %d is listed twice", port)
	}
	for i, to := range n.Egress {
		at := strictyaml.Index("network.egress", i)
		c.require(to == EgressLAN || to == EgressPhone, at, "%q must be %s or %s", to, EgressLAN, EgressPhone)
		c.require(slices.Index(n.Egress, to) == i, at, "%q is listed twice", to)
	}
	c.require(slices.Contains([]string{"", RoutingAuto, RoutingScoped, RoutingMainFirst}, n.Routing), "network.routing", "%q must be %s, %s or %s",
		n.Routing, RoutingAuto, RoutingScoped, RoutingMainFirst)
	for i, peer := range n.Peers {
		at := strictyaml.Index("network.peers", i)
		c.check(at, artifact.CheckName(peer))
		c.require(peer != c.Name, at, "%q is this machine; name others", peer)
	}
}

// vulnerabilityForm matches IDs of vulnerabilities: CVE-2026-1, GO-2026-1, GHSA-x,
// ALPINE-CVE-2026-1.
var vulnerabilityForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (c *checker) cves() {
	for i, ignored := range c.CVEs.Ignore {
		at := strictyaml.Index("cves.ignore", i)
		c.require(vulnerabilityForm.MatchString(ignored.ID), strictyaml.Join(at, "id"), "%q is not a vulnerability; write one such as CVE-2026-12345", ignored.ID)
		c.require(ignored.Reason != "" && plain(ignored.Reason), strictyaml.Join(at, "reason"), "must say on one line why it does not apply")
		if ignored.Until != "" {
			_, err := time.Parse(time.DateOnly, ignored.Until)
			c.require(err == nil, strictyaml.Join(at, "until"), "%q is not a day; write one such as 2026-12-31", ignored.Until)
		}
	}
}

// plain reports whether s is one line without control characters.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func validPort(port int) bool { return port >= 1 && port <= math.MaxUint16 }

// validID excludes the all-ones id, which means "unchanged" for chown(2).
func validID(id int) bool { return id >= 0 && int64(id) < math.MaxUint32 }

func cleanAbsolute(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && p != "/" && plain(p)
}

// MountedOver returns the mount point of the guest that hides p, or "".
func MountedOver(p string) string {
	for _, m := range mountpoints {
		if p == m || strings.HasPrefix(p, m+"/") {
			return m
		}
	}
	return ""
}
