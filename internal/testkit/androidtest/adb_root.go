package androidtest

import "os"

// A Superuser is how a phone gives root rights.
type Superuser string

// Superusers.
const (
	Magisk    Superuser = "magisk"
	KernelSU  Superuser = "kernelsu"
	APatch    Superuser = "apatch"
	AOSP      Superuser = "aosp"   // the su of Android's own userdebug builds: `su 0 PROGRAM ARGUMENTS`
	RootShell Superuser = "shell"  // adbd's shell is root, as after `adb root`
	Denied    Superuser = "denied" // Magisk's, whose user has said no
	Unrooted  Superuser = "none"   // there is no su
)

// Superusers are all of them.
var Superusers = []Superuser{Magisk, KernelSU, APatch, AOSP, RootShell, Denied, Unrooted}

// installSu gives the phone its su. One that KernelSU or APatch does not grant is not there for the
// caller either.
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
