//go:build linux

package timekeeper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

// TestFindPort: FindPort opens only the port with the right name.
func TestFindPort(t *testing.T) {
	sys := t.TempDir()
	for port, name := range map[string]string{"vport1p1": "org.qemu.guest_agent.0", "vport2p1": configdisk.TimePort} {
		dir := filepath.Join(sys, "class/virtio-ports", port)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, ok := FindPort(sys, filepath.Join(sys, "dev"))
	if !ok || s.Name != "port" {
		t.Fatalf("%+v, %v", s, ok)
	}
	if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "dev/vport2p1") {
		t.Errorf("a device that is not there: %v", err)
	}
	if _, ok := FindPort(t.TempDir(), "/dev"); ok {
		t.Error("a port is found where there is none")
	}
}
