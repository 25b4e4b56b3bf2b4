package configdisk

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// HostOf returns the value of Config.Host for a serial number or another unique text of a host. It
// is a digest, because the text may be private. It is empty for an empty text.
func HostOf(serial string) string {
	if serial = strings.TrimSpace(serial); serial == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("sov host " + serial))
	return hex.EncodeToString(sum[:16])
}

// ThisHost returns the value of Config.Host for this Linux system (machine-id(5)), or "" on other
// systems.
func ThisHost() string {
	text, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return ""
	}
	return HostOf(string(text))
}
