package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
)

// diskPath returns the path of the data disk (volume "") or of a volume.
func diskPath(vm phonepath.VM, volume string) string {
	if volume != "" {
		return vm.Volume(volume)
	}
	return vm.Data()
}

// ensureDisk creates a machine's disk if it does not exist, and enlarges a disk that is too small.
func ensureDisk(ctx context.Context, name, path string, d datadisk.Spec, log func(string)) error {
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("%s: %w", d.Name(), err)
	}
	done, err := d.Ensure(ctx, path)
	if mismatch := new(datadisk.MismatchError); errors.As(err, &mismatch) {
		return unfitError{versionError{fmt.Errorf("%s %w: %s", d.Name(), err, adviseMismatch(name, mismatch))}}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name(), err)
	}
	if done != "" {
		log(fmt.Sprintf("%s the %s %s, of %d MiB", done, d.Name(), path, d.Size>>20))
	}
	return nil
}

// adviseMismatch returns advice on converting a disk to the kind that the installed version needs.
func adviseMismatch(name string, mismatch *datadisk.MismatchError) string {
	way := fmt.Sprintf("`sov backup %s FILE`, `sov remove %[1]s --data`, `sov push %[1]s --start`, `sov restore %[1]s FILE`", name)
	with, without := "with vm.encrypt: true", "without vm.encrypt"
	if mismatch.Volume != "" {
		with, without = "with encrypted: true for it", "without encrypted for it"
		way += "; a volume of another name begins empty"
	}
	if mismatch.Encrypted {
		return "push a version " + with + ", or back up its data with such a version and start with a new disk: " + way
	}
	return "push a version " + without + ", back up its data and start with a new disk: " + way
}

// A keptDisk is an existing disk with a machine's data.
type keptDisk struct {
	datadisk.Spec // its volume
	path          string
}

// name returns the disk's name in package health.
func (k keptDisk) name() string { return cmp.Or(k.Volume, health.DataDisk) }

// keptDisks returns a machine's existing disks with data: the data disk, then the volumes by name.
func keptDisks(vm phonepath.VM) (disks []keptDisk) {
	if _, err := os.Lstat(vm.Data()); err == nil {
		disks = append(disks, keptDisk{path: vm.Data()})
	}
	files, _ := os.ReadDir(vm.Volumes()) // most machines do not have the folder
	for _, f := range files {
		if name, ok := phonepath.VolumeName(f.Name()); ok {
			disks = append(disks, keptDisk{datadisk.Spec{Volume: name}, vm.Volume(name)})
		}
	}
	return disks
}
