package publish

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/testkit/nametest"
)

func TestNames(t *testing.T) {
	nametest.Run(t, func(name string) error {
		text, err := (&manifest.Manifest{Format: manifest.Format, Name: name, Version: "1", Arch: "arm64"}).Encode()
		if err != nil {
			return err
		}
		statement := []byte("{}")
		sums := manifest.SumsFile([]manifest.File{manifest.Describe(artifact.ManifestFile, text), manifest.Describe(artifact.ProvenanceFile, statement)})
		documents := map[string][]byte{artifact.ManifestFile: text, artifact.ProvenanceFile: statement, artifact.SumsFile: sums}
		m := &v1.Manifest{}
		for file, content := range documents {
			c := bytesContent(fileType, content)
			c.Annotations = map[string]string{titleKey: file}
			m.Layers = append(m.Layers, c.Descriptor)
		}
		_, err = checkFiles(m, documents)
		return err
	})
}
