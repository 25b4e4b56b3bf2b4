// Package output reads and writes the small JSON files by which stages describe their outputs to
// each other.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/sovereign-sql/sov/pipeline"
)

// Version adds the version of a stage's outputs to its key, as the first field. A stage raises its
// version when the same inputs give other bytes, so that caches of older versions of sov are not
// used.
func Version(k *pipeline.Key, version int) { k.Add("version", version) }

// JSON encodes v, indented and with a newline at the end.
func JSON(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// WriteJSON makes v the output called name.
func WriteJSON(j *pipeline.Job, name string, v any) error {
	text, err := JSON(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	_, err = j.Write(name, text)
	return err
}

// An Opener opens blobs.
type Opener interface {
	Open(b pipeline.Blob) (*os.File, error)
}

// A Source has the outputs of stages. *pipeline.Job is one.
type Source interface {
	Opener
	Outputs(stage string) []pipeline.Output
}

// Of returns the outputs of a finished build.
func Of(result *pipeline.Result, blobs Opener) Source { return finished{blobs, result} }

type finished struct {
	Opener
	result *pipeline.Result
}

func (f finished) Outputs(stage string) []pipeline.Output {
	if st := f.result.Stage(stage); st != nil {
		return st.Outputs
	}
	return nil
}

// Find returns an output of a stage.
func Find(src Source, stage, name string) (pipeline.Blob, bool) {
	for _, o := range src.Outputs(stage) {
		if o.Name == name {
			return o.Blob, true
		}
	}
	return pipeline.Blob{}, false
}

// Compare returns an error unless outputs have the names and digests of want, in the same order. An
// empty digest in want matches any.
func Compare(outputs, want []pipeline.Output) error {
	for i, o := range outputs {
		switch {
		case i >= len(want):
			return fmt.Errorf("%s is not one of its files", o.Name)
		case o.Name != want[i].Name:
			return fmt.Errorf("%s stands where %s should", o.Name, want[i].Name)
		case want[i].Digest != "" && o.Digest != want[i].Digest:
			return fmt.Errorf("%s has digest %s, not %s", o.Name, o.Digest, want[i].Digest)
		}
	}
	if len(outputs) < len(want) {
		return fmt.Errorf("%s is missing", want[len(outputs)].Name)
	}
	return nil
}

// maxJSON limits ReadJSON, in bytes. The list of an image's packages has about a hundred KiB.
const maxJSON = 64 << 20

// ReadJSON decodes an output of a stage.
func ReadJSON(src Source, stage, name string, v any) error {
	b, ok := Find(src, stage, name)
	if !ok {
		return fmt.Errorf("stage %s has no output %q", stage, name)
	}
	if b.Size > maxJSON {
		return fmt.Errorf("read %s of stage %s: it has %d bytes, more than %d", name, stage, b.Size, maxJSON)
	}
	f, err := src.Open(b)
	if err != nil {
		return fmt.Errorf("read %s of stage %s: %w", name, stage, err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read %s of stage %s: %w", name, stage, err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("decode %s of stage %s: %w", name, stage, err)
	}
	return nil
}
