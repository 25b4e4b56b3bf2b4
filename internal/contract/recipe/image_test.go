package recipe

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A fakeImage has one program, a user 70 and a group 70.
type fakeImage struct{}

func (fakeImage) Program(name, dir, searchPath string) (string, error) {
	if name != "serve" {
		return "", errors.New("its program " + name + " is not in " + searchPath)
	}
	return "/usr/bin/serve", nil
}

func (fakeImage) UserOf(uid int) (string, error)  { return map[int]string{70: "app"}[uid], nil }
func (fakeImage) GroupOf(gid int) (string, error) { return map[int]string{70: "app"}[gid], nil }

func ofImage(t *testing.T, rest string) *Recipe {
	t.Helper()
	r, err := Parse("a.yaml", []byte("name: a\n"+anyBase+rest))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const oneOfImage = "services: [{name: web, command: image}]\n"

func TestWithImage(t *testing.T) {
	config := ImageConfig{Entrypoint: []string{"serve"}, Cmd: []string{"--port", "80"}, Env: []string{"PATH=/opt/bin", "MODE=image", "EMPTY="},
		User: "70", WorkingDir: "srv", StopSignal: "3", ExposedPorts: []string{"80/tcp", "53/udp", "54/sctp", "443"}, Volumes: []string{"/var/lib/web", "/data/files", "/tmp/x"}}
	r := ofImage(t, oneOfImage)
	got, warnings, err := r.WithImage(config, fakeImage{})
	if err != nil {
		t.Fatal(err)
	}
	s := got.Services[0]
	if diff := cmp.Diff([]any{
		Command{"/usr/bin/serve", "--port", "80"}, "app", "/srv", "SIGQUIT", map[string]Variable{"PATH": {Text: "/opt/bin"}, "MODE": {Text: "image"}, "EMPTY": {}},
		[]Publish{{Port: 443, Service: "web", Protocol: "tcp"}, {Port: 53, Service: "web", Protocol: "udp"}, {Port: 80, Service: "web", Protocol: "tcp"}},
		[]Directory{{Path: "/data/files", Mode: 0o750, Owner: "app"}, {Path: "/data/web/var/lib/web", Mode: 0o750, Owner: "app"}},
		[]Link{{"/var/lib/web", "/data/web/var/lib/web"}},
	}, []any{s.Command, s.User, s.Directory, s.Stop.Signal, s.Environment, got.Network.Publish, s.Directories, got.Links}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "54/sctp") {
		t.Errorf("warnings: %q", warnings)
	}
	if !r.OfImage() || len(r.Network.Publish) > 0 || got.OfImage() {
		t.Error("the recipe itself was changed")
	}
	if s.Restart.Policy != "always" || s.Ready.Timeout == 0 || *s.OOMScore != serviceOOMScore {
		t.Errorf("defaults are missing: %+v", s)
	}
}

// TestWithImageOnVolume: an image's volume whose path is on a volume of the recipe stays at that
// path.
func TestWithImageOnVolume(t *testing.T) {
	r := ofImage(t, oneOfImage+"volumes: [{name: web, size: 1GiB, path: /var/lib/web}]\n")
	got, _, err := r.WithImage(ImageConfig{Cmd: []string{"serve"}, User: "70", Volumes: []string{"/var/lib/web", "/var/cache"}}, fakeImage{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{
		[]Directory{{Path: "/data/web/var/cache", Mode: 0o750, Owner: "app"}, {Path: "/var/lib/web", Mode: 0o750, Owner: "app"}},
		[]Link{{"/var/cache", "/data/web/var/cache"}},
	}, []any{got.Services[0].Directories, got.Links}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestWithImageRecipeCounts: the recipe takes precedence over the image.
func TestWithImageRecipeCounts(t *testing.T) {
	r := ofImage(t, `
users: [{name: mine, uid: 5, gid: 5}]
services:
  - {name: web, command: image, user: mine, directory: /home, environment: {MODE: recipe}, stop: {signal: SIGINT}}
network: {publish: [80]}
`)
	got, _, err := r.WithImage(ImageConfig{Cmd: []string{"serve"}, Env: []string{"MODE=image"}, User: "70:70", WorkingDir: "/srv", StopSignal: "SIGWINCH",
		ExposedPorts: []string{"80/tcp"}}, fakeImage{})
	if err != nil {
		t.Fatal(err)
	}
	s := got.Services[0]
	if s.User != "mine" || s.Group != "" || s.Directory != "/home" || s.Environment["MODE"].Text != "recipe" || s.Stop.Signal != "SIGINT" || len(got.Network.Publish) != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestWithImageUsers(t *testing.T) {
	for _, tt := range []struct {
		user  string
		want  []string // the service's user and group
		users []User
	}{
		{"", []string{"root", ""}, nil},
		{"app", []string{"app", ""}, nil},
		{"app:staff", []string{"app", "staff"}, nil},
		{"70:70", []string{"app", "app"}, nil},
		{"1000", []string{"image-1000", ""}, []User{{Name: "image-1000", UID: 1000, GID: 1000, Group: "image-1000", Home: "/", Shell: "/sbin/nologin"}}},
		{"1000:70", []string{"image-1000", "app"}, []User{{Name: "image-1000", UID: 1000, GID: 70, Group: "app", Home: "/", Shell: "/sbin/nologin"}}},
		{"1000:2000", []string{"image-1000", "image-2000"}, []User{{Name: "image-1000", UID: 1000, GID: 2000, Group: "image-2000", Home: "/", Shell: "/sbin/nologin"}}},
	} {
		got, _, err := ofImage(t, oneOfImage).WithImage(ImageConfig{Cmd: []string{"serve"}, User: tt.user}, fakeImage{})
		if err != nil {
			t.Errorf("%s: %v", tt.user, err)
			continue
		}
		if diff := cmp.Diff([]any{tt.want, tt.users}, []any{[]string{got.Services[0].User, got.Services[0].Group}, got.Users}); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.user, diff)
		}
	}
}

func TestWithImageRefuses(t *testing.T) {
	for _, tt := range []struct {
		config ImageConfig
		want   string
	}{
		{ImageConfig{}, "service web: the base image: it has neither an entrypoint nor a command: give services[].command a program"},
		{ImageConfig{Cmd: []string{"other"}}, "its program other is not in"},
		{ImageConfig{Cmd: []string{"serve"}, StopSignal: "SIGWINCH"}, "give services[].stop.signal one of SIGTERM"},
		{ImageConfig{Cmd: []string{"serve"}, ExposedPorts: []string{"http"}}, `it exposes "http", which is not a port`},
		{ImageConfig{Cmd: []string{"serve"}, Volumes: []string{"/data", "/x"}}, "give services[].directories"},
		{ImageConfig{Cmd: []string{"serve"}, Env: []string{"=x"}}, "is not a variable name"},
	} {
		if _, _, err := ofImage(t, oneOfImage).WithImage(tt.config, fakeImage{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.config, err, tt.want)
		}
	}
	_, err := Parse("a.yaml", []byte("name: a\n"+anyBase+"services: [{name: web, command: serve}]\n"))
	if err == nil || !strings.Contains(err.Error(), "a.yaml:4:33: services[0].command: \"serve\" is neither a list") {
		t.Errorf("a command that is a word: %v", err)
	}
}
