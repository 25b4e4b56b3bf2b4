package recipe

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// An ImageConfig is a base image's configuration of its program (OCI image specification,
// config.md).
type ImageConfig struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string // NAME=VALUE
	User         string   // name or id, and :group
	WorkingDir   string
	StopSignal   string // name, without SIG too, or number
	ExposedPorts []string
	Volumes      []string
}

// Command returns the image's entrypoint with its command as arguments.
func (c ImageConfig) Command() []string { return slices.Concat(c.Entrypoint, c.Cmd) }

// An ImageTree answers questions about the files of the base image.
type ImageTree interface {
	// Program returns the absolute path of a command's program, found like a shell in dir.
	Program(name, dir, searchPath string) (string, error)
	// UserOf and GroupOf return the names of ids; "" if the image has none.
	UserOf(uid int) (string, error)
	GroupOf(gid int) (string, error)
}

// OfImage reports whether a service runs the base image's command.
func (r *Recipe) OfImage() bool {
	return slices.ContainsFunc(r.Services, func(s Service) bool { return s.Command.OfImage() })
}

// WithImage returns a copy of the recipe completed with the base image's configuration, and
// warnings about differences between a machine and a container. Values in the recipe take
// precedence over the image's.
func (r *Recipe) WithImage(config ImageConfig, files ImageTree) (*Recipe, []string, error) {
	out := *r
	out.Services, out.Users, out.Groups = slices.Clone(r.Services), slices.Clone(r.Users), slices.Clone(r.Groups)
	out.Network.Publish = slices.Clone(r.Network.Publish)
	i := imageReader{config, files, &out, nil}
	for n := range out.Services {
		s := &out.Services[n]
		if !s.Command.OfImage() {
			continue
		}
		if err := i.service(s); err != nil {
			return nil, nil, fmt.Errorf("service %s: the base image: %w", s.Name, err)
		}
	}
	if err := i.ports(r); err != nil {
		return nil, nil, fmt.Errorf("the base image: %w", err)
	}
	out.complete()
	doc, err := strictyaml.Decode("recipe "+r.Name+" with its base image", nil, &struct{}{})
	if err == nil {
		check(&out, doc)
		err = doc.Err()
	}
	return &out, i.warnings, err
}

// An imageReader completes a recipe with an image's configuration.
type imageReader struct {
	ImageConfig
	files    ImageTree
	recipe   *Recipe
	warnings []string
}

func (i *imageReader) service(s *Service) error {
	command := i.Command()
	if len(command) == 0 {
		return fmt.Errorf("it has neither an entrypoint nor a command: give services[].command a program")
	}
	env := map[string]Variable{}
	for _, variable := range i.Env {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = Variable{Text: value}
	}
	maps.Copy(env, s.Environment)
	s.Environment = env
	if s.Directory == "" {
		s.Directory = path.Join("/", i.WorkingDir)
	}
	searchPath := env["PATH"].Text
	if searchPath == "" {
		searchPath = guestspec.DefaultPath
	}
	program, err := i.files.Program(command[0], s.Directory, searchPath)
	if err != nil {
		return err
	}
	s.Command = append(Command{program}, command[1:]...)
	if s.User == "" {
		if err := i.user(s); err != nil {
			return err
		}
	}
	if s.Stop.Signal == "" {
		if s.Stop.Signal, err = signalName(i.StopSignal); err != nil {
			return err
		}
	}
	return i.volumes(s)
}

// user sets the service's user to the image's. An id without a name gets one.
func (i *imageReader) user(s *Service) error {
	user, group, _ := strings.Cut(i.ImageConfig.User, ":")
	gid := -1
	if group != "" && s.Group == "" {
		s.Group = group
		if id, err := strconv.Atoi(group); err == nil {
			gid = id
			if s.Group, err = i.files.GroupOf(id); err != nil {
				return err
			}
			if s.Group == "" {
				s.Group = "image-" + group
				i.recipe.Groups = addOnce(i.recipe.Groups, Group{Name: s.Group, GID: id})
			}
		}
	}
	uid, err := strconv.Atoi(user)
	if err != nil {
		s.User = user // a name, or none
		return nil
	}
	if s.User, err = i.files.UserOf(uid); s.User != "" || err != nil {
		return err
	}
	// Docker uses group 0 for an id without an account. A service must not have root's group by
	// default.
	if gid < 0 {
		gid = uid
	}
	s.User = "image-" + user
	account := User{Name: s.User, UID: uid, GID: gid}
	if account.Group, err = i.files.GroupOf(gid); err != nil {
		return err
	}
	if account.Group == "" && group != "" {
		account.Group = s.Group
	}
	if !slices.ContainsFunc(i.recipe.Users, func(u User) bool { return u.Name == s.User }) {
		i.recipe.Users = append(i.recipe.Users, account)
	}
	return nil
}

func addOnce[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// signalNumbers are those of signal(7) on arm64 and amd64.
var signalNumbers = map[string]string{"1": "SIGHUP", "2": "SIGINT", "3": "SIGQUIT", "10": "SIGUSR1", "12": "SIGUSR2", "15": "SIGTERM"}

func signalName(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	name, ok := signalNumbers[text]
	if !ok {
		name = "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	}
	if !slices.Contains(stopSignals, name) {
		return "", fmt.Errorf("its stop signal is %.20q: give services[].stop.signal one of %s", text, strings.Join(stopSignals, ", "))
	}
	return name, nil
}

// volumes puts the image's volumes onto the data disk.
func (i *imageReader) volumes(s *Service) error {
	for _, volume := range slices.Sorted(slices.Values(i.Volumes)) {
		volume = path.Join("/", volume)
		if volume == guestspec.DataPath {
			// The data disk itself. A list of directories would make it read-only.
			if len(i.Volumes) > 1 {
				return fmt.Errorf("it has the volume %s, which is the data disk, and others: give services[].directories", volume)
			}
			continue
		}
		if m := MountedOver(volume); m != "" && m != guestspec.DataPath && m != "/run" {
			continue // in memory, as /tmp
		}
		place := volume
		if i.recipe.volumeAt(volume) == nil && !strings.HasPrefix(volume, guestspec.DataPath+"/") && !strings.HasPrefix(volume, "/run/") {
			place = guestspec.DataPath + "/" + s.Name + volume
			i.recipe.Links = addOnce(i.recipe.Links, Link{Path: volume, Target: place})
		}
		if !slices.ContainsFunc(s.Directories, func(d Directory) bool { return d.Path == place }) {
			s.Directories = append(slices.Clone(s.Directories), Directory{Path: place})
		}
	}
	return nil
}

// ports publishes the ports that the image exposes, as ports of the first service with the image's
// command.
func (i *imageReader) ports(r *Recipe) error {
	service := r.Services[slices.IndexFunc(r.Services, func(s Service) bool { return s.Command.OfImage() })].Name
	for _, exposed := range slices.Sorted(slices.Values(i.ExposedPorts)) {
		text, protocol, _ := strings.Cut(exposed, "/")
		port, err := strconv.Atoi(text)
		if err != nil || !validPort(port) {
			return fmt.Errorf("it exposes %.40q, which is not a port", exposed)
		}
		p := Publish{Port: port, Service: service, Protocol: cmp.Or(protocol, guestspec.TCP)}
		if p.Protocol != guestspec.TCP && p.Protocol != guestspec.UDP {
			i.warnings = append(i.warnings, fmt.Sprintf("the base image exposes %s, and only TCP and UDP ports can be published", exposed))
			continue
		}
		if !slices.ContainsFunc(i.recipe.Network.Publish, func(o Publish) bool { return o.Port == p.Port && o.Protocol == p.Protocol }) {
			i.recipe.Network.Publish = append(i.recipe.Network.Publish, p)
		}
	}
	return nil
}
