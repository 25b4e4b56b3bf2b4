package configdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const canary = "c4n4ry\"\n'\\é"

func sample() Config {
	return Config{
		Hostname: "sovereign-sql",
		Network: Network{
			Address: netip.MustParsePrefix("192.168.100.2/24"),
			Gateway: netip.MustParseAddr("192.168.100.1"),
			DNS:     []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("2606:4700:4700::1111")},
			MTU:     1400,
		},
		TimeServers: []netip.AddrPort{netip.MustParseAddrPort("192.168.100.1:123")},

		Time:    time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC),
		Secrets: map[string]string{"postgres": canary, "long": strings.Repeat(canary, 100), "empty": ""},
		Token:   strings.Repeat("0123456789abcdef", 2),
	}
}

// equalAddresses lets cmp compare the comparable types of net/netip.
var equalAddresses = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func encode(t testing.TB, c Config) []byte {
	t.Helper()
	disk, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func TestRoundTrip(t *testing.T) {
	for name, c := range map[string]Config{"full": sample(), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			disk := encode(t, c)
			if len(disk)%512 != 0 {
				t.Errorf("%d bytes are not whole sectors", len(disk))
			}
			if again := encode(t, c); !bytes.Equal(disk, again) {
				t.Error("the same config gives different bytes")
			}
			padded := append(bytes.Clone(disk), make([]byte, 4096)...)
			got, err := Decode(bytes.NewReader(padded), int64(len(padded)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c, got, equalAddresses); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	tests := []struct {
		name, want string
		change     func(*Config)
	}{
		{"hostname", "DNS label", func(c *Config) { c.Hostname = "-" + canary }},
		{"address", "cannot be that of a machine", func(c *Config) { c.Network.Address = netip.MustParsePrefix("0.0.0.0/0") }},
		{"gateway alone", "no address", func(c *Config) { c.Network.Address = netip.Prefix{} }},
		{"dns", "at most 3", func(c *Config) { c.Network.DNS = make([]netip.Addr, 4) }},
		{"no dns", "no address", func(c *Config) { c.Network.DNS = make([]netip.Addr, 1) }},
		{"time servers", "at most 4", func(c *Config) { c.TimeServers = make([]netip.AddrPort, 5) }},
		{"time server", "no port", func(c *Config) { c.TimeServers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")} }},
		{"mtu", "68..65535", func(c *Config) { c.Network.MTU = 67 }},
		{"secret name", "secret's name", func(c *Config) { c.Secrets[canary] = canary }},
		{"secret", "not UTF-8", func(c *Config) { c.Secrets["postgres"] = canary + "\xff" }},
		{"short token", "shorter", func(c *Config) { c.Token = canary }},
		{"token", "HTTP header", func(c *Config) { c.Token += canary }},
		{"time", "year", func(c *Config) { c.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"long secret", "more than 65536 bytes", func(c *Config) { c.Secrets["long"] = strings.Repeat(canary, guestspec.MaxSecret/10) }},
		{"too long", "at most 1048576 fit", func(c *Config) {
			for i := range 20 {
				c.Secrets[fmt.Sprint(i)] = strings.Repeat(canary, guestspec.MaxSecret/12)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := sample()
			tt.change(&c)
			_, err := Encode(c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Encode: %v, want an error with %q", err, tt.want)
			}
			wantNoSecret(t, err.Error())
		})
	}
}

// disk adds a valid header to body.
func disk(body string) []byte {
	b := make([]byte, headerSize, headerSize+len(body))
	copy(b, Magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(body)))
	sum := checksum(b[:16], []byte(body))
	copy(b[16:], sum[:])
	return append(b, body...)
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name, want string
		disk       []byte
	}{
		{"nothing", "only 0 bytes", nil},
		{"zeros", "not a config disk", make([]byte, 512)},
		{"version", "version 7", func() []byte { d := disk("{}"); d[8] = 7; return d }()},
		{"length", "more than the disk", func() []byte { d := disk("{}"); d[12] = 200; return d }()},
		{"huge length", "more than the disk", func() []byte { d := disk("{}"); d[15] = 0xff; return d }()},
		{"truncated", "more than the disk", disk(`{"hostname":"a"}`)[:headerSize+3]},
		{"not JSON", "not JSON at byte", disk(`{"token":"` + canary + `"}`)},
		{"kind", "wrong kind at byte", disk(`{"token":123456789}`)},
		{"address", "cannot be read", disk(`{"network":{"address":"c4n4ry"}}`)},
		{"time", "cannot be read", disk(`{"time":"c4n4ry"}`)},
		{"invalid", "shorter", disk(`{"token":"c4n4ry"}`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(bytes.NewReader(tt.disk), int64(len(tt.disk)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Decode: %v, want an error with %q", err, tt.want)
			}
			wantNoSecret(t, err.Error())
		})
	}
	if _, err := Decode(bytes.NewReader(make([]byte, 512)), 512); !errors.Is(err, ErrNotConfigDisk) {
		t.Errorf("a disk of zeros gives %v, want ErrNotConfigDisk", err)
	}
}

func TestFlippedBitIsDetected(t *testing.T) {
	good := encode(t, sample())
	n := headerSize + int(binary.LittleEndian.Uint32(good[12:]))
	for i := range n {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			_, err := Decode(bytes.NewReader(bad), int64(len(bad)))
			if err == nil {
				t.Fatalf("flipped bit %d of byte %d is not detected", bit, i)
			}
			wantNoSecret(t, err.Error())
		}
	}
}

func TestConfigPrintsWithoutSecrets(t *testing.T) {
	c := sample()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, s := range []string{fmt.Sprintf(verb, c), fmt.Sprintf(verb, &c), fmt.Sprintf(verb, struct{ C Config }{c})} {
			wantNoSecret(t, s)
			if strings.Contains(s, c.Token) {
				t.Errorf("%s prints the token: %s", verb, s)
			}
		}
	}
}

func wantNoSecret(t *testing.T, s string) {
	t.Helper()
	if strings.Contains(s, "c4n4ry") {
		t.Errorf("a secret is in %q", s)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, sample()))
	f.Add(encode(f, Config{}))
	f.Add(disk(`{"network":{"address":"::/0","dns":[""]},"time":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(Magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		c, err := Decode(bytes.NewReader(b), int64(len(b)))
		// The checksum hides the body from the fuzzer: decode the input as a body as well.
		if err != nil {
			d := disk(string(b))
			if c, err = Decode(bytes.NewReader(d), int64(len(d))); err != nil {
				return
			}
		}
		again, err := Decode(bytes.NewReader(encode(t, c)), int64(len(encode(t, c))))
		if err != nil {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if d := cmp.Diff(c, again, equalAddresses, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	})
}
