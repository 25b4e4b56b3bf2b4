//go:build linux

package filesystem

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
)

// MountsBelow lists the mount points below path, the last mounted first.
func MountsBelow(path string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // proc(5): the fifth is the mount point
		if len(fields) < 5 {
			continue
		}
		if at := unescapeMount(fields[4]); strings.HasPrefix(at, path+"/") {
			list = append(list, at)
		}
	}
	slices.Reverse(list)
	return list
}

// unescapeMount decodes the kernel's octal escapes, such as \040 for a space.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
