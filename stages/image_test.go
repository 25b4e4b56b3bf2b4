package stages_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
)

func webImage(w *tinybuild.World, more map[string]string) string {
	files := w.BaseFiles()
	files["usr/local/bin/serve"] = "#!/bin/sh\n"
	files["bin/sh"] = "sh"
	maps.Copy(files, more)
	return w.Push("web:1", files, func(c *v1.Config) {
		c.Entrypoint, c.Cmd, c.Env = []string{"serve"}, []string{"--port", "8080"}, []string{"PATH=/usr/local/bin:/bin", "MODE=image"}
		c.User, c.WorkingDir, c.StopSignal = "1000", "/etc", "SIGINT"
		c.ExposedPorts, c.Volumes = map[string]struct{}{"8080/tcp": {}}, map[string]struct{}{"/var/lib/web": {}}
	})
}

// TestCommandOfImage builds a machine that runs the command of its base image, and inspects it as
// sov inspect does.
func TestCommandOfImage(t *testing.T) {
	w := tinybuild.New(t)
	image := webImage(w, nil)
	text := "name: tiny\nbase: {image: \"" + image + "\"}\nservices: [{name: web, command: image, environment: {MODE: recipe}}]\n"
	result := w.Build(w.Options(t.TempDir(), text))
	img, err := built.OpenImage(result.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	services, err := inspect.Services(img.FS)
	if err != nil || len(services) != 1 {
		t.Fatalf("%d services, %v", len(services), err)
	}
	if s := services[0]; !slices.Equal(s.Command, []string{"/usr/local/bin/serve", "--port", "8080"}) || s.User != "image-1000" || !slices.Equal(s.Write, []string{"/data/web/var/lib/web"}) {
		t.Errorf("sov inspect services: %+v", s)
	}
	config, err := inspect.Config(result.Dir, "services")
	if err != nil || len(config) != 1 {
		t.Fatalf("sov inspect config: %v, %v", config, err)
	}
	var service guestspec.Service
	if err := json.Unmarshal(config[0].Text, &service); err != nil {
		t.Fatal(err)
	}
	if service.Env["MODE"] != "recipe" || service.Env["PATH"] != "/usr/local/bin:/bin" || service.Dir != "/etc" || service.Stop.Signal != "SIGINT" {
		t.Errorf("the service is %+v", service)
	}
	if target, err := img.FS.ReadLink("var/lib/web"); err != nil || target != "/data/web/var/lib/web" {
		t.Errorf("the volume: %q, %v", target, err)
	}
	spec, err := vmspec.Decode([]byte(tinybuild.ReadFile(t, filepath.Join(result.Dir, "vm.json"))))
	if err != nil || !slices.Contains(spec.Ports, vmspec.Port{Port: 8080, Service: "web"}) {
		t.Errorf("published: %v, %v", spec.Ports, err)
	}
	if passwd, err := img.FS.ReadFile("etc/passwd"); err != nil || !strings.Contains(string(passwd), "image-1000:x:1000:1000:") {
		t.Errorf("/etc/passwd: %s, %v", passwd, err)
	}

	image = webImage(w, map[string]string{"var/lib/web/seed": "x"})
	text = "name: tiny\nbase: {image: \"" + image + "\"}\nservices: [{name: web, command: image}]\n"
	if _, err := stages.Build(context.Background(), w.Options(t.TempDir(), text)); err == nil || !strings.Contains(err.Error(), "volume /var/lib/web of the base image is not an empty directory") {
		t.Errorf("a volume with files: %v", err)
	}
}

// TestImageThatWouldNotRun warns about an image with an entrypoint if the recipe has no services.
func TestImageThatWouldNotRun(t *testing.T) {
	w := tinybuild.New(t)
	image := webImage(w, nil)
	for rest, want := range map[string]bool{"": true, "services: [{name: web, command: [/usr/local/bin/serve]}]\n": false} {
		o := w.Options(t.TempDir(), "name: tiny\nbase: {image: \""+image+"\"}\n"+rest)
		var log warnings
		o.Reporter = &log
		w.Build(o)
		n := log.has("the base image is for running serve --port 8080, and the recipe has no services: add services: [{name: NAME, command: image}]")
		if n == 1 != want {
			t.Errorf("%q: %d warnings: %q", rest, n, log.texts)
		}
	}
}

// TestLocalImageChanges builds from a folder that no longer has the image of the lock. This is an
// error, even if the cache has the image. A missing folder is not an error.
func TestLocalImageChanges(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	folder := filepath.Join(dir, "image")
	put := func(tag string) {
		t.Helper()
		ref, err := name.NewTag(w.Host + "/" + tag)
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		to, err := layout.Write(folder, empty.Index)
		if err == nil {
			err = to.AppendImage(img)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("base:1")
	files := w.BaseFiles()
	files["etc/motd"] = "changed"
	w.Push("base:2", files)
	o := w.Options(dir, "name: tiny\nbase: {image: \"oci:"+folder+"\"}\n")
	w.Build(o)
	put("base:2")
	if _, err := stages.Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the image in "+folder+" has changed: it is sha256:") || !strings.Contains(err.Error(), "--update-lock") {
		t.Errorf("with another image in the folder: %v", err)
	}
	put("base:1")
	if again := w.Build(o); len(tinybuild.Ran(again)) > 0 {
		t.Errorf("with the image of the lock, these stages ran: %q", tinybuild.Ran(again))
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	w.Build(o)
	put("base:2")
	o.UpdateLock = true
	img, err := built.OpenImage(w.Build(o).Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if text, err := img.FS.ReadFile("etc/motd"); err != nil || string(text) != "changed" {
		t.Errorf("--update-lock has not taken the new image: %q, %v", text, err)
	}
}
