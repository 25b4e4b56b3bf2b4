package network

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/finding"
)

// A sysctl is a value of a kernel parameter.
type sysctl struct {
	Path  string `json:"path"` // below /proc/sys
	Value string `json:"value"`
}

func (s sysctl) String() string { return strings.ReplaceAll(s.Path, "/", ".") + "=" + s.Value }

func (s sysctl) kind() string { return "sysctl" }

func (s sysctl) valid() bool { return s.Path != "" && filepath.IsLocal(s.Path) && s.Value != "" }

func (s sysctl) foreign() bool { return true }

func (s sysctl) exists(h *Host) (bool, error) {
	value, err := s.current(h)
	return value == s.Value, err
}

func (s sysctl) current(h *Host) (string, error) { return h.readSysctl(s.Path) }

func (s sysctl) make(h *Host) error { return h.writeSysctl(s.Path, s.Value) }

// undo restores the previous value, unless another program has changed the value meanwhile, or
// needs it.
func (s sysctl) undo(h *Host, before string) error {
	now, err := s.current(h)
	if err != nil || now != s.Value || before == s.Value || before == "" { // the ledger with the previous value was lost
		return ignoreAbsent(err)
	}
	if s == ipForward {
		if tethers, err := h.tethers(); tethers || err != nil {
			return err
		}
	}
	return ignoreAbsent(h.writeSysctl(s.Path, before))
}

func (s sysctl) missing() finding.Finding {
	return broken(LayerForwarding, "sysctl "+s.String()+" does not hold",
		"Android's tethering or another program set it back")
}

// rpFilter returns the sysctl that disables an interface's check of source addresses (ip-sysctl,
// conf/*/rp_filter).
func rpFilter(link string) sysctl {
	return sysctl{Path: "net/ipv4/conf/" + link + "/rp_filter", Value: "0"}
}

func (h *Host) readSysctl(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join(h.proc, "sys", path))
	return strings.TrimSpace(string(text)), err
}

func (h *Host) writeSysctl(path, value string) error {
	return os.WriteFile(filepath.Join(h.proc, "sys", path), []byte(value+"\n"), 0)
}
