package phonereport

import (
	"fmt"
	"net/netip"
	"regexp"
)

// A redactor replaces addresses. Equal addresses get equal replacements.
type redactor struct {
	seen map[string]string
	mac  int
	four int
	six  int
}

var (
	macAddress = regexp.MustCompile(`\b([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b`)
	ipv4       = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}\b`)
	ipv6       = regexp.MustCompile(`(?i)[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,}((\.\d{1,3}){3})?`)
)

// redact returns a text with each address replaced by one of the same form. Addresses that identify
// no host stay: loopback, link-local and multicast prefixes, masks, and the unspecified address.
func (r *redactor) redact(text string) string {
	if r.seen == nil {
		r.seen = map[string]string{}
	}
	text = macAddress.ReplaceAllStringFunc(text, func(s string) string {
		return r.replace(s, &r.mac, func(n int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8&0xff, n&0xff) })
	})
	text = ipv6.ReplaceAllStringFunc(text, func(s string) string {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is6() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a == netip.MustParseAddr("fe80::") {
			return s
		}
		form := "2001:db8::%x" // RFC 3849, for documentation
		if a.IsLinkLocalUnicast() {
			form = "fe80::%x" // it holds a hardware address
		}
		return r.replace(s, &r.six, func(n int) string { return fmt.Sprintf(form, n) })
	})
	return ipv4.ReplaceAllStringFunc(text, func(s string) string {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.As4()[0] == 255 || a == netip.MustParseAddr("127.0.0.0") {
			return s
		}
		return r.replace(s, &r.four, func(n int) string { return fmt.Sprintf("198.18.%d.%d", n>>8&0xff, n&0xff) }) // RFC 2544, for benchmarks
	})
}

func (r *redactor) replace(s string, n *int, made func(int) string) string {
	if r.seen[s] == "" {
		*n++
		r.seen[s] = made(*n)
	}
	return r.seen[s]
}
