package androidtest

import "os"

// A Superuser is the way in which a phone grants root.
type Superuser string

// Values of Superuser.
const (
	Magisk    Superuser = "magisk"
	KernelSU  Superuser = "kernelsu"
	APatch    Superuser = "apatch"
	AOSP      Superuser = "aosp"   // the su of Android's userdebug builds: `su 0 PROGRAM ARGUMENTS`
	RootShell Superuser = "shell"  // adbd's shell is root, as after `adb root`
	Denied    Superuser = "denied" // Magisk's, after the user has denied root
	Unrooted  Superuser = "none"   // the phone has no su
)

// Superusers lists all superusers.
var Superusers = []Superuser{Magisk, KernelSU, APatch, AOSP, RootShell, Denied, Unrooted}

// installSu installs the phone's su. KernelSU and APatch hide su from callers without root:
// Unrooted simulates that too.
func (p *Phone) installSu(kind Superuser) {
	p.t.Helper()
	if kind == Unrooted || kind == RootShell {
		return
	}
	p.copy(p.options.Program, "system/bin/su")
	if err := os.Chmod(p.path("system/bin/su"), 0o755|os.ModeSetuid); err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll(p.path("system/etc"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.write("system/etc/su", string(kind), 0o644)
}
