package configdisk

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// HostOf returns the value of Config.Host for a serial number, or another text that one host alone
// has: a digest, since the text may be nobody else's business. It is empty for an empty text.
func HostOf(serial string) string {
	if serial = strings.TrimSpace(serial); serial == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("sov host " + serial))
	return hex.EncodeToString(sum[:16])
}

// ThisHost is the value of Config.Host for the Linux system that this program runs on; empty
// elsewhere (machine-id(5)).
func ThisHost() string {
	text, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return ""
	}
	return HostOf(string(text))
}
