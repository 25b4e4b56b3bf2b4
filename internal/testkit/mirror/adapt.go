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

// moveTo returns a function that moves the files of PostgreSQL's Debian packages to their places in
// Alpine.
func moveTo(major string) func([]apkbuild.File) []apkbuild.File {
	places := [][2]string{
		{"usr/lib/postgresql/" + major + "/bin/", "usr/libexec/postgresql" + major + "/"},
		{"usr/lib/postgresql/" + major + "/lib/", "usr/lib/postgresql" + major + "/"},
		{"usr/share/postgresql/" + major + "/", "usr/share/postgresql" + major + "/"},
	}
	return func(files []apkbuild.File) []apkbuild.File {
		for i, f := range files {
			for _, place := range places {
				if rest, ok := strings.CutPrefix(f.Name, place[0]); ok {
					files[i].Name = place[1] + rest
				}
			}
		}
		return files
	}
}

// debianPlaces returns links at the paths that Debian compiled into PostgreSQL's programs.
func debianPlaces(major string) []apkbuild.File {
	return []apkbuild.File{
		symlink("usr/lib/postgresql/"+major+"/bin", "../../../libexec/postgresql"+major),
		symlink("usr/lib/postgresql/"+major+"/lib", "../../postgresql"+major),
		symlink("usr/share/postgresql/"+major, "../postgresql"+major),
	}
}

// chosenVersion returns the links that the trigger of Alpine's postgresql-common makes for these
// files.
func chosenVersion(major string, files []apkbuild.File) []apkbuild.File {
	links := []apkbuild.File{symlink("usr/libexec/postgresql", "postgresql"+major)}
	for _, name := range postgresPrograms(files) {
		links = append(links, symlink("usr/bin/"+name, "/usr/libexec/postgresql/"+name))
	}
	return links
}

// postgresPrograms returns the names of PostgreSQL's programs among files.
func postgresPrograms(files []apkbuild.File) (names []string) {
	for _, f := range files {
		if strings.HasPrefix(f.Name, "usr/libexec/postgresql") && f.Type != apkbuild.Directory {
			names = append(names, path.Base(f.Name))
		}
	}
	return names
}

// outOfUsr returns a function that moves the files of a program's folder out of /usr. Debian has
// them in /usr since trixie, Alpine does not.
func outOfUsr(program string) func([]apkbuild.File) []apkbuild.File {
	return func(files []apkbuild.File) []apkbuild.File {
		if slices.ContainsFunc(files, func(f apkbuild.File) bool { return f.Name == program }) {
			for i, f := range files {
				if path.Dir(f.Name) == path.Dir(program) {
					files[i].Name = strings.TrimPrefix(f.Name, "usr/")
				}
			}
		}
		return files
	}
}

// loader matches the dynamic loader's path in /usr.
var loader = regexp.MustCompile(`^usr/(lib64/ld-linux-x86-64\.so\.2|lib/ld-linux-aarch64\.so\.1)$`)

// loaders adds a link to the loader at the path outside /usr that every program names.
func loaders(files []apkbuild.File) []apkbuild.File {
	for _, f := range slices.Clone(files) {
		if loader.MatchString(f.Name) {
			files = append(files, symlink(strings.TrimPrefix(f.Name, "usr/"), "../"+f.Name))
		}
	}
	return files
}

// zoneinfo removes Debian's link to a file in /etc that images do not have: PostgreSQL reads every
// name in the folder.
func zoneinfo(files []apkbuild.File) []apkbuild.File {
	return slices.DeleteFunc(files, func(f apkbuild.File) bool { return f.Name == "usr/share/zoneinfo/localtime" })
}

func symlink(name, target string) apkbuild.File {
	return apkbuild.File{Name: name, Type: apkbuild.Symlink, Mode: 0o777, Target: target}
}

// bundleCertificates returns one file of all certificates in Debian's ca-certificates, sorted by
// name, and a link to it. update-ca-certificates makes the same file when the package is
// configured.
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
	// OpenSSL's and LibreSSL's programs use these paths in Alpine.
	return []apkbuild.File{bundle, symlink("etc/ssl/cert.pem", "certs/ca-certificates.crt")}
}

// appletName matches the names of busybox's programs.
var appletName = regexp.MustCompile(`^[a-z0-9_.+-]+$|^\[\[?$`)

// linkApplets adds the links that make busybox the programs it contains. The binary lists their
// names in sequence, "[" and "[[" first.
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
	start := bytes.Index(binary, []byte("[\x00[[\x00"))
	if start < 0 {
		return nil
	}
	var names []string
	for _, name := range bytes.Split(binary[start:], []byte{0}) {
		if !appletName.Match(name) {
			break
		}
		if !slices.Contains(names, string(name)) && string(name) != "busybox" {
			names = append(names, string(name))
		}
	}
	return names
}
