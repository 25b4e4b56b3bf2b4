package kernel

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/fetch"
)

// TestLend uses a kernel from the cache on a computer without a compiler.
func TestLend(t *testing.T) {
	buildTools(t, "arm64")
	finished := image(t, goodConfig("arm64"))
	makefile := makefileHead + "allnoconfig:\n\t@cp $(KCONFIG_ALLCONFIG) .config\n" +
		"\t@printf 'CONFIG_ARM_GIC_V3=y\\nCONFIG_ARM_PSCI_FW=y\\nCONFIG_ARM_ARCH_TIMER=y\\n' >> .config\n" +
		"Image:\n\t@mkdir -p arch/arm64/boot\n\t@base64 -d Kbuild > arch/arm64/boot/Image\n"
	path := write(t, "linux.tar", sourceTar(t, map[string]string{"Kbuild": base64.StdEncoding.EncodeToString(finished), "Makefile": makefile}))
	o := Options{Arch: "arm64", Source: locked(t, path)}
	s := store(t)

	bare := o
	bare.Path, bare.Fetch = t.TempDir(), &fetch.Client{Transport: fetch.Offline}
	_, err := runStage(t, t.Context(), s, bare)
	var missing *MissingToolsError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "--cache-from") {
		t.Fatalf("without a lent kernel: %v", err)
	}
	made, err := runStage(t, t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	borrowed, err := runStage(t, t.Context(), s, bare)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.Outputs, borrowed.Outputs); diff != "" || made.Key == borrowed.Key {
		t.Errorf("outputs (-made +borrowed), key %s\n%s", borrowed.Key, diff)
	}
}
