package androidtest

import (
	"os"
	"path/filepath"
)

// unrooted is what Android's shell says of a program that is not there.
const unrooted = "#!/bin/sh\necho '/system/bin/sh: su: inaccessible or not found' >&2\nexit 127\n"

// installSu gives the phone its su.
func (p *Phone) installSu(kind Superuser) {
	p.t.Helper()
	if kind == Unrooted {
		p.write("system/bin/su", unrooted, 0o755)
		return
	}
	built, err := programs()
	if err != nil {
		p.t.Fatal(err)
	}
	p.copy(filepath.Join(built, "su"), "system/bin/su")
	if err := os.Chmod(p.path("system/bin/su"), 0o755|os.ModeSetuid); err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll(p.path("system/etc"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.write("system/etc/su", string(kind), 0o644)
}
