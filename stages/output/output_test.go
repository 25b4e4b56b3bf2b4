package output

import (
	"context"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A writer is a stage that writes one JSON file.
type writer struct{}

func (writer) Name() string    { return "writer" }
func (writer) Needs() []string { return nil }

func (writer) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	Version(k, 3)
	return nil
}

func (writer) Run(_ context.Context, j *pipeline.Job) error {
	return WriteJSON(j, "writer.json", map[string]int{"a": 1})
}

func TestJSON(t *testing.T) {
	store, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	result, err := (&pipeline.Engine{Store: store}).Build(t.Context(), []pipeline.Stage{writer{}})
	if err != nil {
		t.Fatal(err)
	}
	src := Of(result, store)
	b, ok := Find(src, "writer", "writer.json")
	if want := "{\n  \"a\": 1\n}\n"; !ok || b.Digest != pipeline.DigestOf([]byte(want)) {
		t.Errorf("written: %+v, want %q", b, want)
	}
	var got map[string]int
	if err := ReadJSON(src, "writer", "writer.json", &got); err != nil || got["a"] != 1 {
		t.Errorf("read %v, %v", got, err)
	}
	for what, tt := range map[string]struct {
		stage, name string
		v           any
	}{
		"another stage":  {"reader", "writer.json", &got},
		"another output": {"writer", "reader.json", &got},
		"another type":   {"writer", "writer.json", new([]string)},
	} {
		if err := ReadJSON(src, tt.stage, tt.name, tt.v); err == nil || !strings.Contains(err.Error(), tt.stage) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := JSON(make(chan int)); err == nil {
		t.Error("a channel was encoded")
	}
}
