package androidtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/session"
)

const (
	shell = "/system/bin/sh"
	// shellPath is the $PATH of shells and of the programs that root managers run (bionic's
	// _PATH_DEFPATH).
	shellPath = "/product/bin:/apex/com.android.runtime/bin:/apex/com.android.art/bin:/system_ext/bin:/system/bin:/system/xbin:/odm/bin:/vendor/bin:/vendor/xbin"
)

// environment is the environment of init's children.
var environment = []string{"PATH=" + shellPath, "ANDROID_ROOT=/system", "ANDROID_DATA=/data", "TMPDIR=/data/local/tmp"}

// applets lists the programs that Android links to toybox (external/toybox/Android.bp) and that
// Debian's toybox includes. Debian's toybox lacks Android's dd, diff, expr, gzip, lsof, modprobe,
// more, stty and tr.
const applets = `[ acpi base64 basename blockdev cal cat chgrp chmod chown chroot chrt cksum clear comm cmp cp cpio cut date devmem df
	dirname dmesg dos2unix du echo egrep env expand fallocate false fgrep file find flock fmt free fsync getconf grep groups gunzip
	head hostname hwclock iconv id ifconfig inotifyd insmod install ionice iorenice kill killall ln logname losetup ls lsmod lspci
	lsusb md5sum mkdir mkfifo mknod mkswap mktemp microcom modinfo mount mountpoint mv nc netcat netstat nice nl nohup nproc nsenter
	od paste patch pgrep pidof pkill pmap printenv printf ps pwd readlink realpath renice rm rmdir rmmod sed seq setsid sha1sum
	sha224sum sha256sum sha384sum sha512sum sleep sort split stat strings swapoff swapon sync sysctl tac tail tar taskset tee test
	time timeout top touch true truncate tty ulimit umount uname uniq unix2dos unlink unshare uptime usleep uudecode uuencode uuidgen
	vmstat watch wc which whoami xargs xxd yes zcat`

// stub is the script of an Android program that keeps its values in files below /props. It appends
// calls that change a value to /calls.
const stub = `#!/system/bin/sh
show() { if [ -f "/props/$1" ]; then print -r -- "$(<"/props/$1")"; else echo "$2"; fi; }
case "%[1]s $1" in
"getprop ") cd /props; for f in *.*; do [ "$f" = "*.*" ] || echo "[$f]: [$(show "$f")]"; done ;;
"getprop "*) show "$1" ;;
"device_config get_sync_disabled_for_tests") show sync none ;;
"device_config set_sync_disabled_for_tests") echo "$*" >>/calls/%[1]s; echo "$2" >/props/sync ;;
*" get") show "$2/$3" null ;;
*" put") echo "$*" >>/calls/%[1]s; mkdir -p "/props/$2"; echo "$4" >"/props/$2/$3" ;;
*) echo "%[1]s: unknown: $*" >&2; exit 255 ;;
esac
`

// needed maps the programs of Debian that play the phone's programs to the packages that contain
// them.
var needed = map[string]string{"mksh": "mksh", "toybox": "toybox", "busybox": "busybox-static", "ip": "iproute2", "iptables-legacy": "iptables",
	"nsenter": "util-linux", "qemu-system-aarch64": "qemu-system-arm", "adb": "adb"}

// Missing returns the sorted names of the Debian packages that a phone needs and that are not
// installed.
func Missing() []string {
	var packages []string
	for program, name := range needed {
		if _, err := exec.LookPath(program); err != nil {
			packages = append(packages, name)
		}
	}
	slices.Sort(packages)
	return packages
}

// find returns the path of a program of the computer, with symbolic links resolved.
func find(t session.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not here: install Debian's package %s", name, needed[name])
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// users maps those users of Android that programs here need to their IDs
// (android_filesystem_config.h).
var users = map[string]int{"root": 0, "system": 1000, "radio": 1001, "vpn": 1016, "shell": shellUser, "wakelock": 3010}

// furnish creates the phone's folders and files.
func (p *Phone) furnish(o Options) {
	p.t.Helper()
	if o.Data != "" {
		if err := os.Symlink(o.Data, p.path("data")); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, dir := range []string{"root", "data", "calls", "props", "system/bin", "apex/com.android.virt/bin", "data/local/tmp",
		"sys/power", "sys/power_supply", "sys/thermal"} {
		if err := os.MkdirAll(p.path(dir), 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	for dir, mode := range map[string]os.FileMode{"data": 0o771, "data/local": 0o751, "data/local/tmp": 0o771} { // rootdir/init.rc
		if err := os.Chmod(p.path(dir), mode); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.Chown(p.path("data/local/tmp"), shellUser, shellUser); err != nil {
		p.t.Fatal(err)
	}
	var passwd, group strings.Builder
	for name, id := range users {
		fmt.Fprintf(&passwd, "%[1]s:x:%[2]d:%[2]d::/:/system/bin/sh\n", name, id)
		fmt.Fprintf(&group, "%s:x:%d:\n", name, id)
	}
	p.write("passwd", passwd.String(), 0o644)
	p.write("group", group.String(), 0o644)
	links := map[string]string{"sh": find(p.t, "mksh"), "toybox": find(p.t, "toybox"), "ip": find(p.t, "ip")}
	for _, name := range strings.Fields(applets) {
		links[name] = "toybox"
	}
	for _, verb := range []string{"", "-restore", "-save"} {
		links["iptables"+verb] = p.iptables + verb
		links["ip6tables"+verb] = strings.Replace(p.iptables, "iptables", "ip6tables", 1) + verb
	}
	for name, target := range links {
		if err := os.Symlink(target, p.path("system/bin/"+name)); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, name := range []string{"getprop", "device_config", "settings"} {
		p.write("system/bin/"+name, fmt.Sprintf(stub, name), 0o755)
	}
	p.write("system/bin/getenforce", "#!/system/bin/sh\necho Enforcing\n", 0o755)
	p.installSu(p.superuser)
	crosvm := "apex/com.android.virt/bin/crosvm"
	p.copy(o.Program, crosvm)
	build, err := json.Marshal(o.Build)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(crosvm+".json", string(build), 0o644)
	p.write("calls/crosvm", "", 0o666) // crosvm appends to it as any user
	if err := os.Chmod(p.path("calls/crosvm"), 0o666); err != nil {
		p.t.Fatal(err)
	}
	if o.Runner != "" {
		p.copy(o.Runner, "data/sovereign/bin/sov-runner")
	}
	if o.Report != nil {
		p.furnishReport(o.Report)
	} else {
		p.furnishRelease(o)
	}
	p.furnishPower()
	p.furnishModules()
}

// sdk maps a release to its API level.
var sdk = map[string]string{"13": "33", "14": "34", "15": "35", "16": "36"}

// furnishRelease sets the properties and the device nodes of a release.
func (p *Phone) furnishRelease(o Options) {
	p.t.Helper()
	release := o.Build.Release.Version()
	p.write("nodes", o.nodes(), 0o644)
	for name, value := range map[string]string{"apexd.status": "ready", "apex.all.ready": "true", "ro.build.version.release": release, "ro.build.version.sdk": sdk[release],
		"ro.product.model": "Simulated Phone", "ro.product.manufacturer": "Simulator", "ro.build.type": "user", "ro.product.cpu.abi": "arm64-v8a"} {
		p.SetProp(name, value)
	}
	for name, value := range o.hypervisorProps() {
		p.SetProp(name, value)
	}
	if !o.StillBooting {
		p.SetProp("sys.boot_completed", "1")
	}
}

// nodes returns the phone's device nodes by release (rootdir/ueventd.rc), in the format that
// makeDev reads. The mode of a vendor's hypervisor is assumed: the vendors do not publish it. Every
// node except tun has the device numbers of /dev/null.
func (o Options) nodes() string {
	const root, system, vpn = 0, 1000, 1016 // android_filesystem_config.h
	mode, owner := 0o666, root              // of kvm and vhost-vsock, since 14
	if o.Build.Release == crosvmcli.Android13 {
		mode, owner = 0o600, system
	}
	var out strings.Builder
	add := func(name string, mode, owner int) {
		fmt.Fprintf(&out, "%s %o %d %[3]d 1 3\n", name, mode, owner) // Documentation/admin-guide/devices.txt
	}
	switch o.Hypervisor {
	case NoHypervisor:
	case "", KVM:
		add("kvm", mode, owner)
	default:
		add(string(o.Hypervisor), 0o600, system)
	}
	add("vhost-vsock", mode, owner)
	fmt.Fprintf(&out, "tun %o %d %d 10 200\n", 0o660, system, vpn)
	return out.String()
}
