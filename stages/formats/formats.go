// Package formats lists the formats of an artifact that a build makes on demand. It implements two
// of them: the root file system as an Android sparse image, and compressed with zstd.
package formats

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/disk"
	"github.com/sovereign-sql/sov/stages/module"
)

// A format of an artifact is made by a stage of the same name.
type format struct {
	name string
	file func(machine string) string
	new  func() pipeline.Stage
}

var list = []format{
	{module.Name, artifact.ModuleFile, module.New},
	image(Simg),
	image(Zstd),
	{disk.Name, func(string) string { return artifact.DiskFile }, disk.New},
}

func image(name string) format {
	return format{name, func(string) string { return ImageFile(name) }, func() pipeline.Stage { return NewImage(name) }}
}

// Names returns the names of all formats.
func Names() []string {
	var names []string
	for _, f := range list {
		names = append(names, f.name)
	}
	return names
}

// Files returns the file of each format, in the order of Names.
func Files(machine string) []string {
	var files []string
	for _, f := range list {
		files = append(files, f.file(machine))
	}
	return files
}

// Stages returns the stages that make the named formats, in the order of Names.
func Stages(names []string) []pipeline.Stage {
	var stages []pipeline.Stage
	for _, f := range list {
		if slices.Contains(names, f.name) {
			stages = append(stages, f.new())
		}
	}
	return stages
}

// Check returns an error for an unknown format.
func Check(names []string) error {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("format %q: must be one of %s", name, strings.Join(Names(), ", "))
		}
	}
	return nil
}
