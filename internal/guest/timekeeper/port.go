//go:build linux

package timekeeper

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/sntp"
)

// FindPort returns the host's time server on a virtio-serial port as a source, if the machine has
// one. It does not need the network. sys and dev are the paths of sysfs and of the device nodes.
func FindPort(sys, dev string) (Source, bool) {
	// The pattern is valid, so there is no error.
	names, _ := filepath.Glob(filepath.Join(sys, "class/virtio-ports/vport*/name"))
	for _, name := range names {
		if b, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(b)) != configdisk.TimePort {
			continue
		}
		device := filepath.Join(dev, filepath.Base(filepath.Dir(name)))
		return Source{Name: "port", Every: hostEvery, Read: func(ctx context.Context) (Reading, error) { return readPort(ctx, device) }}, true
	}
	return Source{}, false
}

// readPort opens the port for each reading, so that the rest of an earlier one is dropped.
func readPort(ctx context.Context, device string) (Reading, error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return Reading{}, err
	}
	defer f.Close()
	return askOften(ctx, func(ctx context.Context) (Reading, error) {
		r, err := sntp.Client{}.AskOver(ctx, f)
		return Reading{Server: device, Offset: r.Offset, Uncertainty: r.Delay / 2}, err
	})
}
