package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	names "github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Machines returns the sorted names of the machines that have a folder on the phone: installed
// ones, and removed ones whose data was kept.
func Machines(root phonepath.Root) ([]string, error) {
	entries, err := os.ReadDir(root.VMs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := []string{}
	for _, e := range entries {
		if e.IsDir() && names.ValidName(e.Name()) {
			found = append(found, e.Name())
		}
	}
	return found, nil
}

// lookUp returns the paths of a machine that has a folder on the phone. The error for another name
// lists the existing machines.
func lookUp(root phonepath.Root, name string) (phonepath.VM, error) {
	vm, err := root.VM(name)
	if err != nil {
		return vm, err
	}
	if _, err = os.Stat(vm.Dir()); !errors.Is(err, fs.ErrNotExist) {
		return vm, err
	}
	others, err := Machines(root)
	if err != nil {
		return vm, err
	}
	if len(others) == 0 {
		return vm, fmt.Errorf("%s is not installed on this phone, and no other machine is: `sov push %[1]s` installs it", name)
	}
	return vm, fmt.Errorf("%s is not installed on this phone: use a name that is, %s, or `sov push %[1]s`", name, strings.Join(others, ", "))
}
