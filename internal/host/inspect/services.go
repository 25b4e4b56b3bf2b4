package inspect

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A Service describes a service of an image and its permissions.
type Service struct {
	Name         string           `json:"name"`
	Command      []string         `json:"command"`
	User         string           `json:"user"`
	Capabilities []string         `json:"capabilities"`
	Write        []string         `json:"write"`   // files and directories that it may write
	Hidden       []string         `json:"hidden"`  // those of other services, which are hidden from it
	Devices      []string         `json:"devices"` // in addition to null, zero, full, random and urandom
	Limits       guestspec.Limits `json:"limits"`
	Ports        []string         `json:"ports"`              // of the guest that it publishes, such as "80/tcp"
	Secrets      []string         `json:"secrets,omitempty"`  // in files or its environment
	Schedule     string           `json:"schedule,omitempty"` // when it runs; empty: it runs continuously
	// Unconfined are its commands that run with all privileges of sov-init.
	Unconfined [][]string `json:"unconfined,omitempty"`
}

// Services returns the services of the image, in the order in which sov-init starts them.
func Services(image fs.FS) ([]Service, error) {
	config, err := guestspec.Load(image)
	if err != nil {
		return nil, err
	}
	list := []Service{}
	for _, s := range config.Services {
		shown := Service{
			Name: s.Name, Command: s.Command, User: s.User, Capabilities: s.Rights.Capabilities, Devices: s.Rights.Devices,
			Write: s.Writable(), Hidden: s.Hidden(config.Services, config.Roots()), Limits: s.Limits,
			Schedule: s.Schedule,
		}
		for _, o := range config.Firewall.Open {
			if port := fmt.Sprintf("%d/%s", o.Port, o.Protocol); o.Service == s.Name && !slices.Contains(shown.Ports, port) {
				shown.Ports = append(shown.Ports, port)
			}
		}
		secrets := slices.Collect(maps.Values(s.SecretEnv))
		for _, f := range s.Secrets {
			secrets = append(secrets, f.Secret)
		}
		slices.Sort(secrets)
		shown.Secrets = slices.Compact(secrets)
		for _, steps := range [][]guestspec.Step{s.Prepare, s.PostReady} {
			for _, step := range steps {
				if step.Unconfined {
					shown.Unconfined = append(shown.Unconfined, step.Command)
				}
			}
		}
		list = append(list, shown)
	}
	return list, nil
}
