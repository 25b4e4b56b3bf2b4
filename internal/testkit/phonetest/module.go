package phonetest

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/stages/module"
)

// RootManager is what Magisk's util_functions.sh is to a module's update-binary: it unpacks customize.sh and sources it.
const RootManager = `
MAGISK_VER_CODE=28100 ARCH=arm64 API=35 TMPDIR=/data/local/tmp
MODPATH=/data/adb/modules_update/sov-sql
ui_print() { echo "$1"; }
abort() { ui_print "$1"; rm -rf "$MODPATH"; exit 1; }
install_module() {
	mkdir -p "$MODPATH"
	unzip -o "$ZIPFILE" customize.sh -d "$TMPDIR" >/dev/null
	. "$TMPDIR/customize.sh"
	[ "$SKIPUNZIP" = 1 ] || abort "it wants to be unpacked"
	rm -rf /data/adb/modules/sov-sql; mkdir -p /data/adb/modules
	mv "$MODPATH" /data/adb/modules/sov-sql
}
`

// Flash makes a module of an artifact's folder and has the phone's root manager install it. The runner in it is the phone's
// own: the simulated phone has this computer's processor.
func (p *Pushed) Flash(dir string, runner []byte) string {
	p.T.Helper()
	a, err := installed.Load(dir)
	if err != nil {
		p.T.Fatal(err)
	}
	const at = "/data/local/tmp/sov-sql.zip"
	if err := os.MkdirAll(filepath.Dir(p.File(at)), 0o755); err != nil {
		p.T.Fatal(err)
	}
	archive, err := os.Create(p.File(at))
	if err != nil {
		p.T.Fatal(err)
	}
	open := func(name string) (io.ReadCloser, error) {
		if name == "sov-runner" {
			return io.NopCloser(strings.NewReader(string(runner))), nil
		}
		return os.Open(filepath.Join(dir, name))
	}
	if err := module.Write(p.T.Context(), archive, a.Manifest, a.Files, open, p.T.TempDir()); err != nil {
		p.T.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		p.T.Fatal(err)
	}
	return p.Ash("unzip -p " + at + " META-INF/com/google/android/update-binary >/data/local/tmp/update-binary; ash /data/local/tmp/update-binary 3 1 " + at)
}

// Ash runs a script under busybox as root managers do: with its own applets before any program.
func (p *Pushed) Ash(script string) string {
	p.T.Helper()
	return p.Shell("PATH=/data/adb/busybox:$PATH busybox ash -euc '" + script + "' 2>&1")
}
