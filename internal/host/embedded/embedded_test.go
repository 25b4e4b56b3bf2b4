package embedded

import (
	"bytes"
	"debug/elf"
	"strings"
	"testing"
)

func TestProgram(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"arm64": elf.EM_AARCH64, "amd64": elf.EM_X86_64} {
		for _, name := range []string{"sov-init", "sov-runner"} {
			program, err := Program(name, arch)
			if err != nil {
				t.Fatal(err)
			}
			file, err := elf.NewFile(bytes.NewReader(program))
			if err != nil {
				t.Fatalf("%s for %s: %v", name, arch, err)
			}
			if file.Machine != machine {
				t.Errorf("%s for %s: machine %v, want %v", name, arch, file.Machine, machine)
			}
			if section := file.Section(".interp"); section != nil {
				t.Errorf("%s for %s: not static: it names an interpreter", name, arch)
			}
		}
	}
}

func TestProgramMissing(t *testing.T) {
	_, err := Program("sov-init", "mips")
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("got %v, want an error that names `make build`", err)
	}
}
