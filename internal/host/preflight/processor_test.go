package preflight

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/finding"
)

// TestProcessor: push accepts these processors and no others.
func TestProcessor(t *testing.T) {
	for machine, want := range map[string]string{
		"aarch64": "arm64", "armv8l": "arm64", "arm64": "arm64", "x86_64": "amd64",
		"armv7l": "", "i686": "", "riscv64": "", "": "",
	} {
		f := facts{machine: machine}.checkArch("")
		if (f.Verdict == finding.OK) != (want != "") || want != "" && f.Found != want {
			t.Errorf("%q: %+v, want %q", machine, f, want)
		}
		if want == "" && !strings.Contains(f.Advice, "must be arm64 or amd64") {
			t.Errorf("%q: the refusal does not say what is allowed: %+v", machine, f)
		}
	}
}
