package pipeline

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/pipeline/store"
)

type settings struct {
	Shared string            `json:"shared_buffers"`
	Listen []string          `json:"listen"`
	Extra  map[string]string `json:"extra,omitempty"`
}

func configured(name string, v settings, needs ...string) *testStage {
	return &testStage{name: name, needs: needs,
		key: func(k *Key, _ Inputs) error { k.Add("version", 2); k.Add("settings", v); return nil },
		run: func(_ context.Context, j *Job) error { _, err := j.Write("out", []byte(v.Shared)); return err }}
}

func TestExplainNamesTheInputThatChanged(t *testing.T) {
	s := openStore(t, t.TempDir())
	e := &Engine{Store: s, Scope: "sql/arm64"}
	before := settings{Shared: "128MB", Listen: []string{"*"}, Extra: map[string]string{"gone": "1"}}
	after := settings{Shared: "256MB", Listen: []string{"*", "::"}}
	mustBuild(t, e, configured("postgres", before), concat("rootfs", "postgres"), writes("kernel", "k"))

	stages := []Stage{configured("postgres", after), concat("rootfs", "postgres"), writes("kernel", "k")}
	plan, err := e.Explain(context.Background(), stages)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := statuses(plan), "postgres=missing rootfs=unknown kernel=cached"; got != want {
		t.Errorf("explain: %s, want %s", got, want)
	}
	res := mustBuild(t, e, stages...)
	if got, want := statuses(res), "postgres=built rootfs=built kernel=cached"; got != want {
		t.Errorf("build: %s, want %s", got, want)
	}
	for _, r := range []*Result{plan, res} {
		want := []string{"settings.listen[1]: added, ::", "settings.shared_buffers: 128MB → 256MB", "settings.extra.gone: removed, was 1"}
		if got := r.Stage("postgres").Changed; !slices.Equal(got, want) {
			t.Errorf("changes %q, want %q", got, want)
		}
	}
	if got := res.Stage("rootfs").Changed; len(got) != 1 || !strings.HasPrefix(got[0], "input postgres/out: sha256:") {
		t.Errorf("changes of rootfs: %q", got)
	}
	if got := res.Stage("kernel").Changed; got != nil {
		t.Errorf("changes of kernel: %q", got)
	}
	var text strings.Builder
	if err := res.WriteExplanation(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"postgres  built    " + res.Stage("postgres").Key + "\n", "          3 inputs changed\n", "128MB → 256MB\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("explanation lacks %q:\n%s", want, text.String())
		}
	}
}

func TestExplainReasons(t *testing.T) {
	s := openStore(t, t.TempDir())
	e := &Engine{Store: s, Scope: "x"}
	reason := func(e *Engine) string { return mustBuild(t, e, writes("a", "1")).Stage("a").Reason }
	if got := reason(e); got != "not in the cache yet" {
		t.Errorf("first: %q", got)
	}
	if got := reason(e); got != "" {
		t.Errorf("hit: %q", got)
	}
	if got := reason(&Engine{Store: s, NoCache: true}); got != reasonNoCache {
		t.Errorf("no cache: %q", got)
	}
	if _, err := s.Prune(context.Background(), store.PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if got := reason(e); got != "its result is no longer in the cache" {
		t.Errorf("pruned: %q", got)
	}
	os.WriteFile(filepath.Join(s.Dir(), "last", "x.json"), []byte("garbage"), 0o644)
	if got := mustBuild(t, e, writes("a", "2")).Stage("a").Reason; got != "not in the cache yet" {
		t.Errorf("with an unreadable memory: %q", got)
	}
}

// TestExplainIsDry checks that Explain neither runs nor writes anything.
func TestExplainIsDry(t *testing.T) {
	s := openStore(t, t.TempDir())
	a := writes("a", "1")
	e := &Engine{Store: s, Scope: "x"}
	if _, err := e.Explain(context.Background(), []Stage{a}); err != nil {
		t.Fatal(err)
	}
	u, err := s.Usage(context.Background())
	if a.runs.Load() != 0 || err != nil || u.Blobs+u.Entries != 0 {
		t.Error("explain ran the stage")
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "last", "x.json")); err == nil {
		t.Error("explain changed what is remembered")
	}
}

func TestChangeText(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct{ before, after, want string }{
		{"a", "b", "v: a → b"},
		{"", "x", `v: "" → x`},
		{"a b", " b", `v: a b → " b"`},
		{"a\nb", "c", `v: "a\nb" → c`},
		{long + "1", long + "2", "v: …" + long[:59] + "1 → …" + long[:59] + "2"},
		{long, "y", "v: " + long[:60] + "… → y"},
	} {
		got := compareFields([]store.Field{{Label: "v", Kind: "string", Value: c.before}}, []store.Field{{Label: "v", Kind: "string", Value: c.after}})
		if len(got) != 1 || got[0].String() != c.want {
			t.Errorf("%q → %q: %v, want %s", c.before, c.after, got, c.want)
		}
	}
}

func TestLongFieldsAreComparedByDigest(t *testing.T) {
	field := func(text string) store.Field { return recordedField("v", "string", []byte(text)) }
	a, b := strings.Repeat("a", maxFieldText+1), strings.Repeat("b", maxFieldText+1)
	if field(a).Kind != "digest" || len(compareFields([]store.Field{field(a)}, []store.Field{field(b)})) != 1 {
		t.Error("a change of a long value is not seen")
	}
	if field("\xff").Kind != "digest" {
		t.Error("what is not UTF-8 would not survive JSON")
	}
}
