package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Assemble returns an image from its parts: the manifest, if the image has one, the configuration,
// and the layers' uncompressed tars, which open opens by diff ID. The parts must match digest. The
// content of a layer is verified when it is fetched.
func Assemble(digest, arch string, manifest, config []byte, open func(diffID string) (body io.ReadCloser, size int64, err error)) (*Image, error) {
	named := digest
	if manifest != nil {
		if sha256Of(manifest) != digest {
			return nil, fmt.Errorf("its manifest is not that of %s", digest)
		}
		m, err := v1.ParseManifest(bytes.NewReader(manifest))
		if err != nil {
			return nil, fmt.Errorf("read its manifest: %w", err)
		}
		named = m.Config.Digest.String()
	}
	if sha256Of(config) != named {
		return nil, fmt.Errorf("its configuration is not that of %s", digest)
	}
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	if !isFor(c, arch) {
		return nil, fmt.Errorf("the image is for %s/%s", c.OS, c.Architecture)
	}
	out := &Image{Digest: digest, Arch: arch, Manifest: manifest, Config: config}
	for _, id := range c.RootFS.DiffIDs {
		if id.Algorithm != "sha256" {
			return nil, errors.New("diff ID " + id.String() + " is not a SHA-256")
		}
		body, size, err := open(id.String())
		if err != nil {
			return nil, fmt.Errorf("open layer %s: %w", id, err)
		}
		body.Close()
		out.Layers = append(out.Layers, Layer{Digest: id.String(), DiffID: id.String(), Size: size, open: func() (io.ReadCloser, error) {
			body, _, err := open(id.String())
			return body, err
		}})
	}
	return out, nil
}

func sha256Of(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
