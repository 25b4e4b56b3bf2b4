package preflight

import (
	"strings"
	"testing"
)

// The processors that push accepts, and no others.
func TestProcessor(t *testing.T) {
	for machine, want := range map[string]string{
		"aarch64": "arm64", "armv8l": "arm64", "arm64": "arm64", "x86_64": "amd64",
		"armv7l": "", "i686": "", "riscv64": "", "": "",
	} {
		f := facts{machine: machine}.checkArch("")
		if f.OK != (want != "") || f.OK && f.Found != want {
			t.Errorf("%q: %+v, want %q", machine, f, want)
		}
		if !f.OK && !strings.Contains(f.Advice, "must be arm64 or amd64") {
			t.Errorf("%q: the refusal does not say what is allowed: %+v", machine, f)
		}
	}
}
