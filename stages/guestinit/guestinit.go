// Package guestinit is the stage that adds to the root file system what sov-init needs: the program
// itself, its description of the guest, the recipe's users, groups, directories and services, and
// the mount points of writable file systems.
package guestinit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the stage's name.
const Name = "guestinit"

// ProgramPath is the path of the init in the root file system.
const ProgramPath = guestspec.InitPath

// Options describe the guest.
type Options struct {
	Below   []overlay.Share // the base image and its packages
	Program []byte          // sov-init for the guest's architecture
	Recipe  *recipe.Recipe
}

// New returns the stage.
func New(o Options) pipeline.Stage { return overlay.Share{Stage: &stage{o}} }

type stage struct{ Options }

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return overlay.Names(s.Below) }

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	r := s.Recipe
	output.Version(k, 2)
	k.Add("sov-init", pipeline.DigestOf(s.Program))
	k.Add("guest", s.config())
	k.Add("users", r.Users)
	k.Add("groups", r.Groups)
	k.Add("directories", r.Directories)
	for _, l := range r.Links {
		k.Add("link "+l.Path, l.Target)
	}
	for _, described := range s.services() {
		k.Add("service "+described.Name, described)
	}
	k.Add("required users", s.requiredUsers())
	return nil
}

// config returns the description that sov-init reads.
func (s *stage) config() guestspec.Config {
	var sysctls map[string]string
	for name, value := range s.Recipe.VM.Sysctl {
		if sysctls == nil {
			sysctls = map[string]string{}
		}
		sysctls[name] = string(value)
	}
	return guestspec.Config{
		Format:   guestspec.Format,
		Image:    guestspec.Image{Name: s.Recipe.Name, Version: s.Recipe.Version},
		Hostname: s.Recipe.Network.Hostname,
		Data:     guestspec.Data{Encrypted: s.Recipe.VM.Encrypt},
		Endpoint: guestspec.Endpoint{Shell: s.Recipe.VM.Shell},
		Firewall: Firewall(s.Recipe),

		TimeServers: s.Recipe.Network.Time,
		Sysctls:     sysctls,
		Volumes:     volumes(s.Recipe),
	}
}

// services returns the services that this stage describes: PostgreSQL has its own stage.
func (s *stage) services() []guestspec.Service {
	var list []guestspec.Service
	for _, described := range s.Recipe.Services {
		list = append(list, service(described, WritableRoots(s.Recipe)))
	}
	if s.Recipe.Tailscale.Enabled {
		list = append(list, TailscaleService(s.Recipe.Tailscale))
	}
	return list
}

// requiredUsers returns the users of services and the owners of directories.
func (s *stage) requiredUsers() []string {
	var users []string
	for _, service := range s.Recipe.Services {
		users = append(users, service.User)
		for _, d := range service.Directories {
			users = append(users, d.Owner)
		}
		for _, f := range service.Secrets {
			users = append(users, f.Owner)
		}
		for _, step := range slices.Concat(service.Prepare, service.PostReady) {
			if step.User != "" {
				users = append(users, step.User)
			}
		}
	}
	for _, v := range s.Recipe.Volumes {
		users = append(users, v.Owner)
	}
	if s.Recipe.Postgres.Enabled {
		users = append(users, s.Recipe.Postgres.User)
	}
	return users
}

func (s *stage) Run(_ context.Context, j *pipeline.Job) error {
	return overlay.Write(j, Name, s.Below, s.fill)
}

func (s *stage) fill(b *overlay.Builder, below *tree.Tree) error {
	if len(s.Program) == 0 {
		return errors.New("there is no sov-init to put into the image")
	}
	b.File(ProgramPath, 0o755, s.Program)
	if err := s.describe(b); err != nil {
		return err
	}
	if err := mountpoints(b, below); err != nil {
		return err
	}
	if err := volumeMountpoints(b, below, s.Recipe.Volumes); err != nil {
		return err
	}
	accounts, err := accountsOf(below, s.Recipe)
	if err == nil {
		err = s.checkAccounts(accounts)
	}
	if err != nil {
		return err
	}
	accounts.write(b)
	linkPostgres(b, below)
	if err := s.links(b, below); err != nil {
		return err
	}
	return s.directories(b, accounts)
}

// links replaces directories that services keep on the data disk with links.
func (s *stage) links(b *overlay.Builder, below *tree.Tree) error {
	for _, l := range s.Recipe.Links {
		_, n, err := below.Resolve(l.Path)
		if err == nil && (!n.IsDir() || len(n.Entries()) > 0) {
			return fmt.Errorf("volume %s of the base image is not an empty directory, and %s on the data disk would hide its content: "+
				"write the service's command, and add the files that it needs, instead of command: image", l.Path, l.Target)
		}
		b.Symlink(l.Path, l.Target)
	}
	return nil
}

// describe adds sov-init's description of the guest and the host name.
func (s *stage) describe(b *overlay.Builder) error {
	config := s.config()
	if err := config.Validate(); err != nil {
		return err
	}
	text, err := output.JSON(config)
	if err != nil {
		return err
	}
	b.Directory("etc/sov", 0o755, 0, 0)
	b.Directory(guestspec.ServicesDir, 0o755, 0, 0)
	b.File(guestspec.ConfigPath, 0o644, text)
	for _, described := range s.services() {
		text, err := EncodeService(described, config.Volumes)
		if err != nil {
			return err
		}
		b.File(guestspec.ServicesDir+"/"+described.Name+".json", 0o644, text)
	}
	hostname := s.Recipe.Network.Hostname
	b.File("etc/hostname", 0o644, []byte(hostname+"\n"))
	for _, name := range []string{"hosts", "resolv.conf"} { // links to /run, where the init writes them: the image is read-only
		b.Symlink("etc/"+name, "../run/"+name)
	}
	return nil
}

// mountpoints adds the guest's mount points that the layers below lack.
func mountpoints(b *overlay.Builder, below *tree.Tree) error {
	for path, perm := range map[string]int64{"data": 0o755, "dev": 0o755, "proc": 0o555, "run": 0o755, "sys": 0o555, "tmp": 0o1777} {
		n, ok := below.Lookup(path)
		switch {
		case !ok:
			b.Directory(path, perm, 0, 0)
		case !n.IsDir():
			return fmt.Errorf("/%s of the base image is not a directory, and the guest has to mount there", path)
		}
	}
	return nil
}

// checkAccounts returns an error if a required user or group does not exist.
func (s *stage) checkAccounts(a *accounts) error {
	for _, user := range s.requiredUsers() {
		if _, _, err := a.ids(user); err != nil {
			return err
		}
	}
	for _, service := range s.Recipe.Services {
		if service.Group == "" {
			continue
		}
		if _, err := a.groupID(service.Group); err != nil {
			return fmt.Errorf("service %s: %w: neither the base image nor its packages have one, and the recipe's groups do not list it", service.Name, err)
		}
	}
	for _, v := range s.Recipe.Volumes {
		if _, _, err := a.owner(v.Owner, v.Group); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}

func (s *stage) directories(b *overlay.Builder, a *accounts) error {
	for _, d := range s.Recipe.Directories {
		uid, gid, err := a.owner(d.Owner, d.Group)
		if err != nil {
			return fmt.Errorf("directory %s: %w", d.Path, err)
		}
		b.Directory(d.Path, int64(d.Mode), uid, gid)
	}
	return nil
}
