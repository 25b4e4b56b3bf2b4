package daemon

import "github.com/sovereign-sql/sov/internal/phone/crosvm"

// A mark has the sizes of two logs at the start of a machine. Later content belongs to this run.
type mark struct{ console, said int64 }

func (d *Daemon) mark() mark { return mark{size(d.vm.Console()), size(d.vm.Log())} }

// explain refines an exit with the logs.
func (d *Daemon) explain(exit crosvm.Exit, m mark) crosvm.Exit {
	return exit.Explain(since(d.vm.Console(), m.console), since(d.vm.Log(), m.said))
}

// maxSince limits how many bytes of a log are read.
const maxSince = 64 << 10

// since returns the end of what was written to a log after the size at. A smaller log was emptied
// meanwhile.
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
