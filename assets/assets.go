// Package assets carries the files that people edit and the program embeds: the
// recipes that sov knows by name, PostgreSQL's settings, and the scripts of the
// phone's module.
package assets

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed *.yaml postgresql.conf
var files embed.FS

// PostgresConf is the settings that every PostgreSQL of ours starts from, with
// the reason of each, as a postgresql.conf.
//
//go:embed postgresql.conf
var PostgresConf string

// Module holds the scripts of the module for root managers, see package module.
//
//go:embed module
var Module embed.FS

// Recipe returns the source of the embedded recipe of that name. The error of
// an unknown name lists the known ones and matches fs.ErrNotExist.
func Recipe(name string) ([]byte, error) {
	known := Recipes()
	if !slices.Contains(known, name) {
		return nil, fmt.Errorf("%q: %w: the built-in recipes are %s, any other is the path of a YAML file",
			name, fs.ErrNotExist, strings.Join(known, ", "))
	}
	return files.ReadFile(name + ".yaml")
}

// Recipes returns the names of the embedded recipes in order.
func Recipes() []string {
	matches, _ := fs.Glob(files, "*.yaml") // the pattern is well formed
	for i, m := range matches {
		matches[i] = strings.TrimSuffix(path.Base(m), ".yaml")
	}
	return matches
}
