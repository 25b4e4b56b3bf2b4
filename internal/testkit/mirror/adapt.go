package mirror

import (
	"bytes"
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// linkInto adds, for every program in the folder from, a symbolic link to it
// in the folder into.
func linkInto(into, from string, files []apkbuild.File) []apkbuild.File {
	for _, f := range slices.Clone(files) {
		if path.Dir(f.Name) == from && f.Type != apkbuild.Directory {
			target := strings.Repeat("../", strings.Count(into, "/")+1) + f.Name
			files = append(files, symlink(path.Join(into, path.Base(f.Name)), target))
		}
	}
	return files
}

func symlink(name, target string) apkbuild.File {
	return apkbuild.File{Name: name, Type: apkbuild.Symlink, Mode: 0o777, Target: target}
}

// bundleCertificates makes of the certificates in Debian's ca-certificates
// the one file that update-ca-certificates would make of them when the
// package is configured: all of them, in the order of their names.
func bundleCertificates(files []apkbuild.File) []apkbuild.File {
	slices.SortFunc(files, func(a, b apkbuild.File) int { return cmp.Compare(a.Name, b.Name) })
	bundle := apkbuild.File{Name: "etc/ssl/certs/ca-certificates.crt", Type: apkbuild.Regular, Mode: 0o644}
	for _, f := range files {
		if path.Ext(f.Name) != ".crt" || f.Type != apkbuild.Regular {
			continue
		}
		bundle.Data = append(bundle.Data, f.Data...)
		if !bytes.HasSuffix(f.Data, []byte("\n")) {
			bundle.Data = append(bundle.Data, '\n')
		}
		if f.ModTime.After(bundle.ModTime) {
			bundle.ModTime = f.ModTime
		}
	}
	// Where OpenSSL's and LibreSSL's programs look in Alpine.
	return []apkbuild.File{bundle, symlink("etc/ssl/cert.pem", "certs/ca-certificates.crt")}
}

// appletName matches what busybox's programs are called.
var appletName = regexp.MustCompile(`^[a-z0-9_.+-]+$|^\[\[?$`)

// linkApplets adds the links that make busybox the programs it contains.
// Their names stand in the binary, one after the other, "[" and "[[" first.
func linkApplets(files []apkbuild.File) []apkbuild.File {
	for _, f := range slices.Clone(files) {
		if f.Name != "bin/busybox" {
			continue
		}
		for _, applet := range applets(f.Data) {
			files = append(files, symlink("bin/"+applet, "busybox"))
		}
		files = append(files, symlink("usr/bin/env", "../../bin/busybox"))
	}
	return files
}

func applets(binary []byte) []string {
	const first = "\x00[\x00[[\x00"
	start := bytes.Index(binary, []byte(first))
	if start < 0 {
		return nil
	}
	var names []string
	for _, name := range bytes.Split(binary[start+1:], []byte{0}) {
		if !appletName.Match(name) {
			break
		}
		if !slices.Contains(names, string(name)) && string(name) != "busybox" {
			names = append(names, string(name))
		}
	}
	return names
}
