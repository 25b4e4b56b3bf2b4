// Package configdisk reads and writes the config disk: a few KiB with a guest's configuration for
// one start, namely its addresses, the time, its secrets and the token of its endpoint.
//
// The disk is attached read-only and written for every start. Its layout, all integers
// little-endian:
//
//	offset  size  what
//	0       8     magic "SOVCONF\n"
//	8       4     version, 1
//	12      4     length of the JSON, at most MaxJSON
//	16      32    SHA-256 of bytes 0 to 15 and the JSON
//	48      n     JSON of Config
//	48+n          zeros up to a multiple of 512, the sector of a virtio disk
//
// The disk contains every secret of the guest, so it should be in memory ([InMemory]); if it must
// be a file, its mode must be 0600. Errors of this package never contain a byte of the JSON, and a
// [Config] prints without its secrets with every verb.
package configdisk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

const (
	// Magic is the start of a config disk, by which a guest finds it.
	Magic = "SOVCONF\n"
	// MaxJSON is the largest JSON, in bytes.
	MaxJSON = 1 << 20

	version    = 1
	headerSize = 16 + sha256.Size
	sectorSize = 512
)

// ErrNotConfigDisk says that the data does not begin with Magic.
var ErrNotConfigDisk = errors.New("not a config disk")

// Config is a guest's configuration for one start.
type Config struct {
	Hostname string  `json:"hostname,omitempty"` // one DNS label; empty: the image's
	Network  Network `json:"network"`
	// Time is the host's wall-clock time just before the start. The guest sets its clock to it
	// before anything else.
	Time time.Time `json:"time"`
	// TimeServers are SNTP servers of the host, in order of preference, at most MaxTimeServers. A
	// machine with a TimePort does not need them.
	TimeServers []netip.AddrPort `json:"time_servers,omitempty"`
	// Secrets by name (see guestspec.ValidSecretName); values are any UTF-8 text of up to
	// guestspec.MaxSecret bytes.
	Secrets map[string]string `json:"secrets,omitempty"`
	// Host is an ID of the phone or computer that starts the guest, by which the guest detects a
	// copied data disk: up to MaxHost printable ASCII characters; empty if unknown.
	Host string `json:"host,omitempty"`
	// Token is the access token of the guest's endpoint for this boot: at least MinToken printable
	// ASCII characters. Without it the endpoint does not listen.
	Token string `json:"token,omitempty"`
}

// TimePort is the name of the virtio-serial port of the host's SNTP server, if the machine has one:
// packets of 48 bytes (RFC 4330, section 4), without framing.
const TimePort = "sov.time"

// MaxTimeServers is the maximum length of Config.TimeServers.
const MaxTimeServers = 4

// MaxHost is the maximum length of Config.Host, in bytes.
const MaxHost = 64

// MinToken is the minimum length of a token: 32 hexadecimal digits are 128 bits.
const MinToken = 32

// Network is the guest's side of its one network interface.
type Network struct {
	// Address is the address with its prefix length, such as 192.168.100.2/24. With the zero value
	// the interface is not configured.
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"`       // of the default route; zero: none
	DNS     []netip.Addr `json:"dns,omitempty"` // in order of preference, at most 3 as in resolv.conf(5)
	MTU     int          `json:"mtu,omitempty"` // bytes; 0 leaves the interface's
	// Hosts are the initial names in the guest's /etc/hosts; the host may replace them later.
	Hosts []Host `json:"hosts,omitempty"`
}

// A Host is a name of a machine on the same host and its address.
type Host struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// Domain is the suffix of machines' names in Hosts. ICANN reserves it for private use.
const Domain = ".internal"

// MaxHosts bounds Hosts.
const MaxHosts = 256

// CheckHosts returns the first error in names for a guest.
func CheckHosts(hosts []Host) error {
	if len(hosts) > MaxHosts {
		return fmt.Errorf("%d names of hosts, at most %d can be used", len(hosts), MaxHosts)
	}
	for _, h := range hosts {
		if !guestspec.ValidServer(h.Name) || !h.Address.IsValid() {
			return errors.New("a name of a host is not made of DNS labels, or has no address")
		}
	}
	return nil
}

// Format prints only the parts of c that are not secret, with every verb, so that a %v cannot leak
// secrets.
func (c Config) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "configdisk.Config{Hostname:%q Network:{%s via %s dns %s mtu %d} Time:%s Secrets:%d Token:%t}",
		c.Hostname, c.Network.Address, c.Network.Gateway, c.Network.DNS, c.Network.MTU,
		c.Time.UTC().Format(time.RFC3339), len(c.Secrets), c.Token != "")
}

// Validate returns the first error in c, without quoting secrets.
func (c Config) Validate() error {
	if c.Hostname != "" && !guestspec.ValidHostname(c.Hostname) {
		return errors.New("config disk: the host name is not a DNS label of up to 63 letters, digits and dashes")
	}
	if err := c.Network.validate(); err != nil {
		return err
	}
	if len(c.TimeServers) > MaxTimeServers {
		return fmt.Errorf("config disk: %d time servers, at most %d can be used", len(c.TimeServers), MaxTimeServers)
	}
	for _, s := range c.TimeServers {
		if !s.IsValid() || s.Port() == 0 {
			return errors.New("config disk: a time server has no address or no port")
		}
	}
	for name, value := range c.Secrets {
		if !guestspec.ValidSecretName(name) {
			return errors.New("config disk: a secret's name is not made of 1 to 64 letters, digits, dots, underscores and dashes")
		}
		if !utf8.ValidString(value) { // JSON would change it silently
			return fmt.Errorf("config disk: the secret %s is not UTF-8 text", name)
		}
		if len(value) > guestspec.MaxSecret {
			return fmt.Errorf("config disk: the secret %s has more than %d bytes", name, guestspec.MaxSecret)
		}
	}
	if len(c.Host) > MaxHost || strings.ContainsFunc(c.Host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("config disk: the host's name is not made of up to %d printable characters", MaxHost)
	}
	return c.validateToken()
}

func (c Config) validateToken() error {
	if c.Token == "" {
		return nil
	}
	if len(c.Token) < MinToken {
		return fmt.Errorf("config disk: the token is shorter than %d characters", MinToken)
	}
	for i := range len(c.Token) {
		if c.Token[i] <= ' ' || c.Token[i] > '~' {
			return errors.New("config disk: the token contains a character that is not allowed in an HTTP header")
		}
	}
	return nil
}

func (n Network) validate() error {
	if n.Address.IsValid() && (n.Address.Addr().IsUnspecified() || n.Address.Addr().IsMulticast()) {
		return fmt.Errorf("config disk: the address %s cannot be that of a machine", n.Address)
	}
	if n.Gateway.IsValid() && !n.Address.IsValid() {
		return fmt.Errorf("config disk: there is a gateway %s but no address", n.Gateway)
	}
	if len(n.DNS) > 3 {
		return fmt.Errorf("config disk: %d DNS servers, at most 3 can be used", len(n.DNS))
	}
	for _, a := range n.DNS {
		if !a.IsValid() {
			return errors.New("config disk: a DNS server has no address")
		}
	}
	if err := CheckHosts(n.Hosts); err != nil {
		return fmt.Errorf("config disk: %w", err)
	}
	// 68 is IPv4's minimum (RFC 791), 65535 the maximum of a virtio interface.
	if n.MTU != 0 && (n.MTU < 68 || n.MTU > 65535) {
		return fmt.Errorf("config disk: the MTU %d is not in 68..65535", n.MTU)
	}
	return nil
}

// Encode returns the bytes of a config disk with c.
func Encode(c Config) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, errors.New("config disk: cannot be written as JSON; is the year of its time above 9999?")
	}
	if len(body) > MaxJSON {
		return nil, fmt.Errorf("config disk: %d bytes of JSON, at most %d fit; are the secrets meant to be that long?", len(body), MaxJSON)
	}
	size := (headerSize + len(body) + sectorSize - 1) / sectorSize * sectorSize
	disk := make([]byte, size)
	copy(disk, Magic)
	binary.LittleEndian.PutUint32(disk[8:], version)
	binary.LittleEndian.PutUint32(disk[12:], uint32(len(body)))
	copy(disk[headerSize:], body)
	sum := checksum(disk[:16], body)
	copy(disk[16:], sum[:])
	return disk, nil
}

// checksum covers the header and the JSON, so that every flipped bit is detected.
func checksum(header, body []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(header)
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}

// Decode reads the config disk in the first size bytes of r. The error wraps ErrNotConfigDisk if
// they do not begin with Magic.
func Decode(r io.ReaderAt, size int64) (Config, error) {
	header := make([]byte, headerSize)
	if size < headerSize {
		return Config{}, fmt.Errorf("config disk: %w: only %d bytes", ErrNotConfigDisk, size)
	}
	if _, err := r.ReadAt(header, 0); err != nil && err != io.EOF {
		return Config{}, fmt.Errorf("config disk: read header: %w", err)
	}
	if string(header[:8]) != Magic {
		return Config{}, fmt.Errorf("config disk: %w", ErrNotConfigDisk)
	}
	if v := binary.LittleEndian.Uint32(header[8:]); v != version {
		return Config{}, fmt.Errorf("config disk: has version %d, but this guest reads version %d: build and install its image again", v, version)
	}
	n := int64(binary.LittleEndian.Uint32(header[12:]))
	if n > MaxJSON || n > size-headerSize {
		return Config{}, fmt.Errorf("config disk: says %d bytes of JSON, more than the disk or the format holds", n)
	}
	body := make([]byte, n)
	if m, err := r.ReadAt(body, headerSize); int64(m) != n {
		return Config{}, fmt.Errorf("config disk: read JSON: %w", err)
	}
	if sum := checksum(header[:16], body); !bytes.Equal(sum[:], header[16:]) {
		return Config{}, errors.New("config disk: damaged: its checksum does not match")
	}
	var c Config
	if err := json.Unmarshal(body, &c); err != nil {
		return Config{}, describeJSON(err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// describeJSON returns only the position of a JSON error: the errors of encoding/json quote the
// input, which may contain a secret.
func describeJSON(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("config disk: not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("config disk: a value of the wrong kind at byte %d", kind.Offset)
	default:
		return errors.New("config disk: an address or the time cannot be read")
	}
}
