package daemon

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/health"
)

// TestEnsureDisk: the data disk and volumes are made once. They are enlarged, and never made
// smaller.
func TestEnsureDisk(t *testing.T) {
	vm := newVM(t)
	for _, volume := range []string{"", "media"} {
		path := diskPath(vm, volume)
		for _, tt := range []struct{ ask, want int64 }{{256 << 20, 256 << 20}, {1 << 30, 1 << 30}, {256 << 20, 1 << 30}} {
			var said []string
			if err := ensureDisk(t.Context(), vm.Name, path, datadisk.Spec{Volume: volume, Size: tt.ask}, func(s string) { said = append(said, s) }); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Size() != tt.want || info.Mode() != 0o600 {
				t.Errorf("asked for %d bytes: %d, %v, %v, want %d", tt.ask, info.Size(), info.Mode(), err, tt.want)
			}
			if changed := strings.Join(said, "; "); (tt.ask == tt.want) != (changed != "") {
				t.Errorf("asked for %d bytes, it said %q", tt.ask, changed)
			}
		}
	}
	err := ensureDisk(t.Context(), vm.Name, diskPath(vm, "media"), datadisk.Spec{Volume: "media", Size: 1 << 30, Encrypted: true}, func(string) {})
	if fault := new(unfitError); !errors.As(err, fault) || !strings.Contains(err.Error(), "encrypted of volume media") {
		t.Errorf("a disk of the other kind: %v", err)
	}
	m := health.New("sql")
	addDisks(m, vm)
	if len(m.Disks) != 2 || m.Disks[0].Name != "data" || m.Disks[1].Name != "media" || m.Disks[1].Allocated == 0 {
		t.Errorf("where the guest does not answer: %+v", m.Disks)
	}
	m.Disks = nil
	m.AddGuest(&guestapi.Status{Volumes: []guestapi.Volume{{Name: "media", Data: guestapi.Data{Path: "/srv/media", Size: 5}}}})
	addDisks(m, vm)
	if len(m.Disks) != 2 || m.Disks[1].Path != "/srv/media" || m.Disks[1].Size != 5 || m.Disks[1].Allocated == 0 || m.Disks[1].Fault != "" {
		t.Errorf("with what the guest says: %+v", m.Disks)
	}
	m.AddGuest(&guestapi.Status{})
	addDisks(m, vm)
	if len(m.Disks) != 2 || m.Disks[1].Allocated == 0 || m.Disks[1].Fault != "the version that runs has no such volume" {
		t.Errorf("with a guest that has no volume: %+v", m.Disks)
	}
	if kept := keptDisks(vm); len(kept) != 2 || kept[0].name() != "data" || kept[1].name() != "media" || kept[1].path != vm.Volume("media") {
		t.Errorf("kept are %+v", kept)
	}
}

// TestRemoveKeepsVolumes: volumes are removed or kept together with the data disk.
func TestRemoveKeepsVolumes(t *testing.T) {
	vm := newVM(t)
	for _, volume := range []string{"", "media"} {
		if err := ensureDisk(t.Context(), vm.Name, diskPath(vm, volume), datadisk.Spec{Volume: volume, Size: 128 << 20}, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
	for _, data := range []bool{false, true} {
		r, err := Remove(t.Context(), vm.Root(), vm.Name, RemoveOptions{Data: data, Force: true})
		if err != nil {
			t.Fatal(err)
		}
		list := r.Kept
		if data {
			list = r.Removed
		}
		for _, path := range []string{vm.Data(), vm.Volumes()} {
			if _, err := os.Stat(path); (err == nil) == data || !slices.Contains(list, path) {
				t.Errorf("--data %t: %s: %v, of %q", data, path, err, list)
			}
		}
	}
}

func TestSpaceWarnings(t *testing.T) {
	for _, tt := range []struct {
		free, needs int64
		warns       bool
	}{
		{100 << 30, 8 << 30, false},
		{600 << 20, 8 << 30, false},
		{500 << 20, 8 << 30, true},
		{100 << 20, 50 << 20, false}, // it cannot grow by more than that
		{0, 0, false},
		{0, 1, true},
	} {
		if got := spaceWarnings(tt.free, tt.needs); (got != nil) != tt.warns {
			t.Errorf("%d MiB free, %d MiB needed: %q", tt.free>>20, tt.needs>>20, got)
		}
	}
	vm := newVM(t)
	if _, err := phoneSpace([]keptDisk{{path: vm.Data()}}); err == nil {
		t.Error("a disk that is not there")
	}
	for _, volume := range []string{"", "media"} {
		// A sparse disk larger than any phone.
		if err := ensureDisk(t.Context(), vm.Name, diskPath(vm, volume), datadisk.Spec{Volume: volume, Size: 1 << 40}, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := phoneSpace(keptDisks(vm)); err != nil {
		t.Error(err)
	}
}
