package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/taken"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/internal/testkit/registrytest"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
)

// TestVouchForUnsignedCache verifies that sign and publish refuse a machine with parts of an
// unsigned cache unless a flag allows it.
func TestVouchForUnsignedCache(t *testing.T) {
	w := tinybuild.New(t)
	dir := w.Build(w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))).Dir
	key := filepath.Join(t.TempDir(), "key.pem")
	if _, err := signing.NewKey(key, nil); err != nil {
		t.Fatal(err)
	}
	host := registrytest.Start(t)
	reference := host.Repository("team/sql") + ":1"
	commands := [][]string{{"sign", dir, "--key", key, "--reference", reference}, {"publish", dir, reference}}
	for _, tt := range []struct {
		name    string
		list    []taken.Result
		more    []string
		refused bool
	}{
		{"unsigned", []taken.Result{{Stage: "rootfs", Remote: "registry.example.com/cache"}}, nil, true},
		{"allowed", []taken.Result{{Stage: "rootfs", Remote: "registry.example.com/cache"}}, []string{"--allow-unsigned-cache"}, false},
		{"signed", []taken.Result{{Stage: "rootfs", Remote: "registry.example.com/cache", Signer: "abcd"}}, nil, false},
		{"nothing taken", nil, nil, false},
	} {
		if err := taken.Write(dir, tt.list); err != nil {
			t.Fatal(err)
		}
		for _, args := range commands {
			_, stderr, status := cli(t, append(args, tt.more...)...)
			if tt.refused && (status != exitFound || !strings.Contains(stderr, "rootfs from registry.example.com/cache")) || !tt.refused && status != exitDone {
				t.Errorf("%s, %s: status %d, says %q", args[0], tt.name, status, stderr)
			}
		}
	}
	if out, stderr, status := cli(t, "verify", dir); status != exitDone || strings.Contains(out, "taken.json") {
		t.Errorf("verify: status %d: %s%s", status, out, stderr)
	}
}
