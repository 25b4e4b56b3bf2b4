package rootfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/program"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/guestinit"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// fsck is the program with which the guest checks its data disk, see package internal/guest/disk.
const fsck = "/sbin/e2fsck"

// checkPrograms returns an error if fsck or a service's program is missing or cannot run on the
// architecture.
func checkPrograms(t *tree.Tree, goarch string) error {
	if _, ok := t.Lookup(guestspec.ConfigPath); !ok {
		return nil // not the root file system of a guest
	}
	services, err := readServices(t)
	if err != nil {
		return err
	}
	checker, err := program.New(t, goarch)
	if err != nil {
		return err
	}
	var faults []error
	if err := checker.Check(fsck, nil); err != nil {
		faults = append(faults, fmt.Errorf("the guest checks its data disk before each mount: %w (Alpine's package is e2fsprogs)", err))
	}
	for _, s := range services {
		env := map[string]string{"PATH": guestspec.DefaultPath}
		maps.Copy(env, s.Env)
		check := func(what string, command []string) {
			// sov-init is static, and programs on the guest's disks are not known to the build.
			if len(command) == 0 || command[0] == guestinit.ProgramPath || recipe.MountedOver(command[0]) != "" {
				return
			}
			if err := checker.Check(command[0], env); err != nil {
				faults = append(faults, fmt.Errorf("service %s: %s: %w", s.Name, what, err))
			}
		}
		check("command", s.Command)
		check("ready", s.Ready.Command)
		if s.Alive != nil {
			check("alive", s.Alive.Command)
		}
		if b := s.Backup; b != nil {
			check("backup.command", b.Command)
			check("backup.restore", b.Restore)
		}
		for _, step := range s.Prepare {
			check("prepare", step.Command)
		}
		for _, step := range s.PostReady {
			check("post_ready", step.Command)
		}
	}
	return errors.Join(faults...)
}

// maxService is the largest file of a service, in bytes.
const maxService = 1 << 20

func readServices(t *tree.Tree) (services []guestspec.Service, err error) {
	_, dir, err := t.Resolve(guestspec.ServicesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range dir.Entries() {
		text, err := overlay.ReadFile(t, guestspec.ServicesDir+"/"+e.Name, maxService)
		if err != nil {
			return nil, err
		}
		var s guestspec.Service
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", guestspec.ServicesDir, e.Name, err)
		}
		services = append(services, s)
	}
	return services, nil
}
