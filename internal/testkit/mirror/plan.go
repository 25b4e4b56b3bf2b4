package mirror

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// A part is an apk made from a Debian package or from some of its files.
type part struct {
	name     string
	takes    func(name string) bool // selects files; nil: all that earlier parts left
	adapt    func([]apkbuild.File) []apkbuild.File
	provides []string // names without versions; the package's version is added
	depends  []string // in addition to those of its ELF files
	priority int      // among providers of a virtual name
	scripts  map[string][]byte
}

// plan returns the apks to make from a Debian package. A requested package keeps its name, except
// an extension of PostgreSQL, which has Alpine's. A library's name is its Debian name after
// "glibc-", to distinguish it from Alpine's.
func plan(debName string, added bool) []part {
	switch debName {
	case "libc6":
		return []part{
			// This is a fifth of libc6's files and most of its size. PostgreSQL converts character
			// sets itself.
			{name: "glibc-gconv", takes: inAny("usr/lib/*/gconv")},
			{name: "glibc", depends: []string{"glibc-c-utf8"}, adapt: loaders},
		}
	case "libc-bin":
		// This is the only locale that programs can rely on.
		return []part{{name: "glibc-c-utf8", takes: inAny("usr/lib/locale/C.*")}}
	case "e2fsprogs":
		return []part{{name: debName, adapt: outOfUsr("usr/sbin/e2fsck")}}
	case "tzdata":
		return []part{{name: debName, adapt: zoneinfo}}
	case "cryptsetup-bin":
		return []part{{name: "cryptsetup"}}
	case "ca-certificates":
		return []part{{name: "ca-certificates-bundle", takes: inAny("usr/share/ca-certificates"), adapt: bundleCertificates}}
	case "busybox-static":
		return []part{{name: "busybox", takes: inAny("bin", "usr/bin"), adapt: func(files []apkbuild.File) []apkbuild.File { return linkApplets(outOfUsr("usr/bin/busybox")(files)) }, provides: []string{"/bin/sh"}}}
	}
	if serverPackage.MatchString(debName) {
		return planPostgres(debName)
	}
	if m := extensionPackage.FindStringSubmatch(debName); m != nil { // Alpine has extensions for its only server
		return []part{{name: "postgresql-" + m[2], adapt: moveTo(m[1]), depends: []string{"postgresql" + m[1]}}}
	}
	if added {
		return []part{{name: debName}}
	}
	return []part{{name: "glibc-" + debName}}
}

// serverScript creates the server's user and group with the same IDs as in Alpine.
const serverScript = `#!/bin/sh
addgroup -S -g 70 postgres 2>/dev/null
adduser -S -D -H -u 70 -h /var/lib/postgresql -s /bin/sh -G postgres -g "PostgreSQL" postgres 2>/dev/null
exit 0
`

// planPostgres divides PostgreSQL as Alpine does, with Alpine's names: server, client and contrib.
// Debian has server and contrib in one package.
func planPostgres(debName string) []part {
	major := majorVersion(debName)
	priority, _ := strconv.Atoi(major)
	name := "postgresql" + major
	const common = "postgresql-common"
	if strings.Contains(debName, "-client-") {
		return []part{{
			name: name + "-client", adapt: moveTo(major), depends: []string{common},
			provides: []string{"postgresql-client"}, priority: priority,
		}}
	}
	return []part{
		{name: common, takes: func(string) bool { return false }, adapt: func([]apkbuild.File) []apkbuild.File { return debianPlaces(major) }},
		{
			name: name + "-contrib", takes: isContrib, adapt: moveTo(major), depends: []string{name},
			provides: []string{"postgresql-contrib"}, priority: priority,
		},
		{
			name: name, adapt: moveTo(major), depends: []string{"tzdata", common},
			provides: []string{"postgresql"}, priority: priority,
			scripts: map[string][]byte{".pre-install": []byte(serverScript)},
		},
	}
}

// majorVersion returns the digits at the end of a Debian package's name.
func majorVersion(debName string) string { return debName[strings.LastIndexByte(debName, '-')+1:] }

// serverModule matches the modules in PostgreSQL's library folder that belong to the server:
// conversions, snowball, replication, PL/pgSQL.
var serverModule = regexp.MustCompile(`^(.*_and_.*|euc2004_sjis2004|dict_snowball|libpqwalreceiver|pgoutput|plpgsql)\.so$`)

// isContrib reports whether a file of Debian's server package comes from PostgreSQL's contrib
// folder.
func isContrib(name string) bool {
	dir, base := path.Split(name)
	switch path.Base(dir) {
	case "bin":
		return base == "oid2name" || base == "vacuumlo"
	case "lib":
		return !serverModule.MatchString(base)
	case "extension":
		return !strings.HasPrefix(base, "plpgsql")
	case "contrib":
		return true
	case "tsearch_data":
		return base == "unaccent.rules" || base == "xsyn_sample.rules"
	}
	return false
}

// inAny returns a function that matches names in one of the folders, which are patterns of
// path.Match.
func inAny(folders ...string) func(string) bool {
	return func(name string) bool {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			for _, folder := range folders {
				if ok, _ := path.Match(folder, dir); ok {
					return true
				}
			}
		}
		return false
	}
}

// leaveOut reports whether apks omit a file: documentation, translations, files for other init
// systems and package managers, and just-in-time compilation. That would require 100 MB of LLVM,
// and the server works without its module.
func leaveOut(name string) bool {
	return notCarried(name+"/x") || path.Base(name) == "llvmjit.so" || path.Base(name) == "llvmjit_types.bc"
}

var notCarried = inAny(
	"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/postgresql/*/man",
	"usr/share/lintian", "usr/share/bug", "usr/share/doc-base", "usr/share/apport", "usr/share/initramfs-tools",
	"lib/systemd", "usr/lib/systemd", "lib/udev", "etc/init.d", "etc/cron.d", "etc/logrotate.d",
	"usr/lib/postgresql/*/lib/bitcode",
)
