package mirror

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The images have the same names as on Docker Hub.
const (
	// baseImage has the tag in the sql recipe, independent of the minirootfs's version.
	baseImage          = "library/alpine:3.22"
	postgresRepository = "library/postgres"
)

func postgresImageName(major string) string { return postgresRepository + ":" + major + "-alpine" }

// A registryHandler serves images. Manifests are served by go-containerregistry's registry, which
// holds them in memory. Blobs are served from the contents' folders, with support for ranges.
type registryHandler struct {
	manifests http.Handler
	blobDirs  []string // ".../blobs" of image layouts
}

// newRegistry returns a handler with an index of the architectures of each image.
func newRegistry(contents []*content) (*registryHandler, error) {
	h := &registryHandler{manifests: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	indexes := map[string]v1.ImageIndex{}
	for _, c := range contents {
		dir := filepath.Join(c.dir, "images")
		h.blobDirs = append(h.blobDirs, filepath.Join(dir, "blobs"))
		images, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			return nil, fmt.Errorf("read images: %w", err)
		}
		manifest, err := images.IndexManifest()
		if err != nil {
			return nil, fmt.Errorf("read images in %s: %w", dir, err)
		}
		for _, d := range manifest.Manifests {
			name := d.Annotations[titleAnnotation]
			img, err := images.Image(d.Digest)
			if err != nil {
				return nil, fmt.Errorf("read image %s: %w", name, err)
			}
			if err := h.putImage(name, img); err != nil {
				return nil, err
			}
			if indexes[name] == nil {
				indexes[name] = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
			}
			platform := platformOf(c.arch)
			indexes[name] = mutate.AppendManifests(indexes[name], mutate.IndexAddendum{
				Add: img, Descriptor: v1.Descriptor{Platform: &platform},
			})
		}
	}
	for name, index := range indexes {
		raw, err := index.RawManifest()
		if err != nil {
			return nil, err
		}
		repository, tag, _ := strings.Cut(name, ":")
		if err := h.put(repository, tag, types.OCIImageIndex, raw); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *registryHandler) putImage(name string, img v1.Image) error {
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	repository, _, _ := strings.Cut(name, ":")
	return h.put(repository, digest.String(), types.OCIManifestSchema1, raw)
}

// put adds a manifest to the registry, without the network.
func (h *registryHandler) put(repository, reference string, mediaType types.MediaType, manifest []byte) error {
	req, err := http.NewRequest(http.MethodPut, "/v2/"+repository+"/manifests/"+reference, bytes.NewReader(manifest))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", string(mediaType))
	answer := &statusWriter{header: http.Header{}}
	h.manifests.ServeHTTP(answer, req)
	if answer.status != http.StatusCreated {
		return fmt.Errorf("serve manifest of %s:%s: registry answers %d: %s", repository, reference, answer.status, answer.body.String())
	}
	return nil
}

// A statusWriter records a handler's response.
type statusWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *statusWriter) Header() http.Header         { return w.header }
func (w *statusWriter) WriteHeader(status int)      { w.status = status }
func (w *statusWriter) Write(b []byte) (int, error) { return w.body.Write(b) }

func (h *registryHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	if len(parts) < 2 || parts[len(parts)-2] != "blobs" {
		h.manifests.ServeHTTP(w, r)
		return
	}
	digest, err := v1.NewHash(parts[len(parts)-1])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, dir := range h.blobDirs {
		name := filepath.Join(dir, digest.Algorithm, digest.Hex)
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			w.Header().Set("Docker-Content-Digest", digest.String())
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeFile(w, r, name)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"Unknown blob"}]}`)
}
