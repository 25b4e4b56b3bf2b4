package daemon

import "github.com/sovereign-sql/sov/internal/phone/crosvm"

// A mark is where two logs ended when a machine was started: what comes after it is of this life.
type mark struct{ console, said int64 }

func (d *Daemon) mark() mark { return mark{size(d.vm.Console()), size(d.vm.Log())} }

// explain reads from the logs what an exit status does not tell.
func (d *Daemon) explain(exit crosvm.Exit, m mark) crosvm.Exit {
	return exit.Explain(since(d.vm.Console(), m.console), since(d.vm.Log(), m.said))
}

// maxSince bounds what is read of a log, in bytes.
const maxSince = 64 << 10

// since is the end of what was written to a log since it had a size. A log that is smaller was
// emptied meanwhile.
func since(path string, at int64) string {
	now := size(path)
	if now < at {
		at = 0
	}
	text, err := readEnd(path, min(now-at, maxSince))
	if err != nil {
		return ""
	}
	return string(text)
}
