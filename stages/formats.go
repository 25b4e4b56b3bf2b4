package stages

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/formats"
	"github.com/sovereign-sql/sov/stages/module"
)

// A format is a form of an artifact that is made when it is asked for, by a stage of the same name.
type format struct {
	name  string
	file  func(machine string) string
	stage func() pipeline.Stage
}

var formatList = []format{
	{module.Name, module.File, module.New},
	form(formats.Simg),
	form(formats.Zstd),
}

// form is a form of the root file system.
func form(name string) format {
	return format{name, func(string) string { return formats.File(name) }, func() pipeline.Stage { return formats.New(name) }}
}

// Formats returns the names of the forms that a build can make besides the artifact's own files.
func Formats() []string {
	var names []string
	for _, f := range formatList {
		names = append(names, f.name)
	}
	return names
}

// CheckFormats refuses names that are none.
func CheckFormats(names []string) error {
	for _, name := range names {
		if !slices.Contains(Formats(), name) {
			return fmt.Errorf("format %q: know %s", name, strings.Join(Formats(), ", "))
		}
	}
	return nil
}
