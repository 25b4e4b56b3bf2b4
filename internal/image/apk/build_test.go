package apk

import (
	"archive/tar"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A testFile describes an entry of a package's data tar: "dir/" is a directory, "a -> b" a symbolic
// link, "a => b" a hard link. The content follows a colon.
type testFile string

// buildPackage makes an unsigned .apk. info is .PKGINFO without datahash.
func buildPackage(t testing.TB, info string, scripts map[string]string, files ...tarEntry) []byte {
	t.Helper()
	data := gzipTar(t, false, files...)
	hash := sha256.Sum256(data)
	entries := []tarEntry{tarFile(".PKGINFO", info+"\ndatahash = "+hex.EncodeToString(hash[:])+"\n")}
	for _, kind := range scriptTypes {
		if body, ok := scripts[kind]; ok {
			e := tarFile("."+kind, body)
			e.Mode = 0o755
			entries = append(entries, e)
		}
	}
	return append(gzipTar(t, true, entries...), data...)
}

// entries turns descriptions into tar entries with apk's checksums. A name may have the prefixes
// "mode|" in octal and "uid.gid|".
func entries(list ...testFile) []tarEntry {
	var out []tarEntry
	for _, f := range list {
		out = append(out, f.entry())
	}
	return out
}

func (f testFile) entry() tarEntry {
	h := tar.Header{Format: tar.FormatPAX, Mode: 0o644, ModTime: time.Unix(1700000000, 0), PAXRecords: map[string]string{}}
	name, body, _ := strings.Cut(string(f), ": ")
	for {
		prefix, rest, ok := strings.Cut(name, "|")
		if !ok {
			break
		}
		name = rest
		if strings.Contains(prefix, ".") {
			fmt.Sscanf(prefix, "%d.%d", &h.Uid, &h.Gid)
		} else {
			fmt.Sscanf(prefix, "%o", &h.Mode)
		}
	}
	sum := sha1.Sum([]byte(body))
	switch {
	case strings.HasSuffix(name, "/"):
		h.Typeflag, h.Name = tar.TypeDir, name
		if h.Mode == 0o644 {
			h.Mode = 0o755
		}
	case strings.Contains(name, " -> "):
		h.Typeflag = tar.TypeSymlink
		h.Name, h.Linkname, _ = strings.Cut(name, " -> ")
		h.Mode = 0o777
		sum = sha1.Sum([]byte(h.Linkname))
	case strings.Contains(name, " => "):
		h.Typeflag = tar.TypeLink
		h.Name, h.Linkname, _ = strings.Cut(name, " => ")
	default:
		h.Typeflag, h.Name, h.Size = tar.TypeReg, name, int64(len(body))
	}
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeSymlink {
		h.PAXRecords["APK-TOOLS.checksum.SHA1"] = hex.EncodeToString(sum[:])
	}
	return tarEntry{h, body}
}
