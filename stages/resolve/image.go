package resolve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// ApplyImage completes the recipe's services with the configuration of an entry's base image. It
// warns if the image has a command but the recipe has no service.
func (r *Resolver) ApplyImage(ctx context.Context, entry *lock.Entry) error {
	runsNothing := len(r.Recipe.Services) == 0 && !r.Recipe.Postgres.Enabled
	if !runsNothing && !r.Recipe.OfImage() {
		return nil
	}
	image := r.Base(entry)
	outputs, err := r.Run(ctx, image)
	if err != nil {
		return err
	}
	config, err := imageConfig(outputs)
	if err != nil {
		return err
	}
	if runsNothing {
		if len(config.Entrypoint) > 0 {
			r.warn(fmt.Sprintf("the base image is for running %s, and the recipe has no services: add services: [{name: NAME, command: image}]",
				strings.Join(config.Command(), " ")))
		}
		return nil
	}
	return r.Do(ctx, "read image", func(context.Context, *pipeline.Task) error {
		merged, err := overlay.Merge(outputs, overlay.Shares(image)...)
		if err != nil {
			return err
		}
		defer merged.Close()
		filled, warnings, err := r.Recipe.WithImage(config, imageTree{merged.Tree})
		for _, text := range warnings {
			r.warn(text)
		}
		if err == nil {
			r.Recipe = filled
		}
		return err
	})
}

// imageConfig reads the image's configuration from the outputs of the base stage.
func imageConfig(outputs output.Source) (c recipe.ImageConfig, err error) {
	var about base.Image
	if err := output.ReadJSON(outputs, base.Name, base.ImageFile, &about); err != nil {
		return c, err
	}
	var document struct {
		Config struct {
			Entrypoint, Cmd, Env         []string
			User, WorkingDir, StopSignal string
			ExposedPorts, Volumes        map[string]struct{}
		} `json:"config"`
	}
	if err := json.Unmarshal(about.Config, &document); err != nil {
		return c, fmt.Errorf("read the configuration of image %s: %w", about.Digest, err)
	}
	d := document.Config
	return recipe.ImageConfig{Entrypoint: d.Entrypoint, Cmd: d.Cmd, Env: d.Env, User: d.User, WorkingDir: d.WorkingDir, StopSignal: d.StopSignal,
		ExposedPorts: slices.Collect(maps.Keys(d.ExposedPorts)), Volumes: slices.Collect(maps.Keys(d.Volumes))}, nil
}

// An imageTree is a recipe.ImageTree.
type imageTree struct{ *tree.Tree }

func (t imageTree) Program(name, dir, searchPath string) (string, error) {
	places := strings.Split(searchPath, ":")
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(dir, name)
		}
		places = []string{"/"}
	}
	for _, place := range places {
		full := path.Join("/", place, name)
		if _, n, err := t.Resolve(full); err == nil && n.IsRegular() && n.Mode&0o111 != 0 {
			return full, nil
		}
	}
	return "", fmt.Errorf("its program %q is not in %s", name, strings.Join(places, ":"))
}

func (t imageTree) UserOf(uid int) (string, error)  { return t.nameOf("etc/passwd", uid) }
func (t imageTree) GroupOf(gid int) (string, error) { return t.nameOf("etc/group", gid) }

// nameOf returns the name of an id, the third field of /etc/passwd and /etc/group.
func (t imageTree) nameOf(file string, id int) (string, error) {
	const limit = 1 << 20
	text, err := overlay.ReadFile(t.Tree, file, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(fields) > 2 && fields[2] == strconv.Itoa(id) {
			return fields[0], nil
		}
	}
	return "", nil
}
