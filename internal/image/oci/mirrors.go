package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sovereign-sql/sov/internal/bound"
)

// DockerMirrors returns the registries that Docker on this computer tries before Docker Hub: the
// "registry-mirrors" of the first existing daemon.json: the system's, the user's (rootless Docker)
// or Docker Desktop's. home is the user's home directory.
func DockerMirrors(home string) ([]string, error) {
	paths := []string{"/etc/docker/daemon.json"}
	if home != "" {
		paths = append(paths, filepath.Join(home, ".config/docker/daemon.json"), filepath.Join(home, ".docker/daemon.json"))
	}
	for _, path := range paths {
		mirrors, err := readMirrors(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		return mirrors, err
	}
	return nil, nil
}

func readMirrors(path string) ([]string, error) {
	b, err := bound.ReadFile(path, maxDocument)
	if err != nil {
		return nil, err
	}
	var daemon struct {
		Mirrors []string `json:"registry-mirrors"`
	}
	if err := json.Unmarshal(b, &daemon); err != nil {
		return nil, fmt.Errorf("read registry mirrors from %s: %w", path, err)
	}
	return daemon.Mirrors, nil
}

// candidates returns the references to try: for an image of Docker Hub each mirror, then the
// registry of the reference. With a digest they have the digest instead of the tag.
func candidates(ref name.Reference, digest string, mirrors []string) []name.Reference {
	identifier := ref.Identifier()
	if digest != "" {
		identifier = digest
	}
	var out []name.Reference
	if ref.Context().RegistryStr() == name.DefaultRegistry {
		for _, mirror := range mirrors {
			if repository, err := mirrored(ref.Context(), mirror); err == nil {
				out = append(out, withIdentifier(repository, identifier))
			}
		}
	}
	return append(out, withIdentifier(ref.Context(), identifier))
}

// mirrored returns the name of a repository on a mirror such as "https://mirror.example".
func mirrored(r name.Repository, mirror string) (name.Repository, error) {
	host := mirror
	if u, err := url.Parse(mirror); err == nil && u.Host != "" {
		host = u.Host + strings.TrimSuffix(u.Path, "/")
	}
	return name.NewRepository(host + "/" + r.RepositoryStr())
}

func withIdentifier(r name.Repository, identifier string) name.Reference {
	if strings.HasPrefix(identifier, "sha256:") {
		return r.Digest(identifier)
	}
	return r.Tag(identifier)
}
