package inspect

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
)

// ConfigParts are the parts of a machine's settings, in the order in which they take effect.
var ConfigParts = []string{"recipe", "vm", "kernel", "guest", "services", "postgres"}

// UsualParts returns the parts of an out folder or an image that are shown by default: all except
// the kernel's and the recipe, which are long.
func UsualParts(from string) ([]string, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, built.NotBuilt(err)
	}
	if info.IsDir() {
		return []string{"vm", "guest", "services", "postgres"}, nil
	}
	return []string{"guest", "services", "postgres"}, nil
}

// A ConfigFile is a file with settings.
type ConfigFile struct {
	Name string // path in the image if the part has several files; else empty
	Text []byte
}

// Config returns the files of a part of the settings of an out folder or an image.
func Config(from, part string) ([]ConfigFile, error) {
	switch part {
	case "recipe":
		if _, err := os.Stat(filepath.Join(from, artifact.ManifestFile)); err != nil {
			return nil, built.NotBuilt(err)
		}
		text, err := provenance.Recipe(from)
		return []ConfigFile{{Text: text}}, err
	case "vm":
		text, err := os.ReadFile(filepath.Join(from, artifact.SpecFile))
		return []ConfigFile{{Text: text}}, built.NotBuilt(err)
	case "kernel":
		text, err := kernelConfig(from)
		return []ConfigFile{{Text: text}}, err
	}
	img, err := built.OpenImage(from)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	switch part {
	case "guest":
		text, err := fs.ReadFile(img.FS, strings.TrimPrefix(guestspec.ConfigPath, "/"))
		return []ConfigFile{{Text: text}}, err
	case "services":
		return configFolder(img.FS, guestspec.ServicesDir)
	default:
		return configFolder(img.FS, "/etc/sov/postgres")
	}
}

func kernelConfig(dir string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, artifact.SpecFile))
	if err != nil {
		return nil, built.NotBuilt(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		return nil, err
	}
	image, err := kconfig.OpenFile(filepath.Join(dir, spec.Kernel))
	if err != nil {
		return nil, err
	}
	return image.Config()
}

// configFolder reads every file of a folder of the image. The folder may be missing.
func configFolder(filesystem fs.FS, dir string) ([]ConfigFile, error) {
	entries, err := fs.ReadDir(filesystem, strings.TrimPrefix(dir, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var files []ConfigFile
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		text, err := fs.ReadFile(filesystem, strings.TrimPrefix(name, "/"))
		if err != nil {
			return nil, err
		}
		files = append(files, ConfigFile{Name: name, Text: text})
	}
	return files, err
}
