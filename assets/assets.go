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

// PostgresConf holds the default settings of every PostgreSQL server that sov builds, in the format
// of postgresql.conf, with the reason for each setting.
//
//go:embed postgresql.conf
var PostgresConf string

// Module holds the scripts of the module for root managers (package module).
//
//go:embed module
var Module embed.FS

// Recipe returns the source of the embedded recipe of that name. The error for an unknown name
// matches fs.ErrNotExist and lists the known names.
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
