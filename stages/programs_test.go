package stages_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
)

// TestProgramsOfServices refuses a machine whose services could not start, and reports each reason.
func TestProgramsOfServices(t *testing.T) {
	w := tinybuild.New(t)
	files := w.BaseFiles()
	files["bin/sh"], files["usr/bin/script"], files["usr/bin/wrong"] = "sh", "#!/usr/bin/none\n", "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 9)+"\x02\x00\x3e\x00\x01"+strings.Repeat("\x00", 43)
	image := w.Push("app:1", files)
	recipe := func(services string) string {
		return "name: tiny\nbase: {image: \"" + image + "\"}\nservices:\n" + services
	}

	w.Build(w.Options(t.TempDir(), recipe("  - {name: good, command: [/bin/sh], prepare: [[/data/tool]], ready: {command: [/bin/sh]}}\n")))
	delete(files, "sbin/e2fsck")
	image = w.Push("app:2", files)
	_, err := stages.Build(context.Background(), w.Options(t.TempDir(), recipe(`
  - {name: absent, command: [/usr/bin/server], prepare: [[/usr/bin/script]], ready: {command: [/usr/bin/ask]}}
  - {name: wrong, command: [/usr/bin/wrong]}
`)))
	if err == nil {
		t.Fatal("it was built")
	}
	for _, want := range []string{
		"the guest checks its data disk before each mount: /sbin/e2fsck is not in the image: add the package that has it to packages.install, " +
			"or the file itself to files or copy (Alpine's package is e2fsprogs)",
		"service absent: command: /usr/bin/server is not in the image: add the package that has it",
		"service absent: prepare: /usr/bin/script is a script: /usr/bin/none is not in the image",
		"service absent: ready: /usr/bin/ask is not in the image",
		"service wrong: command: /usr/bin/wrong is for EM_X86_64, and the machine is for arm64",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}
