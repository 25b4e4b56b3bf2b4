package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// A Change is one input that differs from the last build. Old or New is ""
// if the input was not there.
type Change struct {
	// Label is the label of the key's field; for a field that is structured
	// (JSON), followed by the path to the part that changed, as in
	// "settings.shared_buffers".
	Label    string
	Old, New string
}

// maxChangeText is how much of a value a Change shows, in runes.
const maxChangeText = 60

// String returns the change for people: `label: old → new`.
func (c Change) String() string {
	switch {
	case c.Old == "":
		return fmt.Sprintf("%s: added, %s", c.Label, c.New)
	case c.New == "":
		return fmt.Sprintf("%s: removed, was %s", c.Label, c.Old)
	}
	return fmt.Sprintf("%s: %s → %s", c.Label, c.Old, c.New)
}

// A lastBuild remembers the keys of a scope's last build.
type lastBuild struct {
	Stages map[string]lastStage `json:"stages"`
}

type lastStage struct {
	Key    string  `json:"key"`
	Fields []Field `json:"fields"`
}

func (s *Store) lastPath(scope string) string {
	name := url.PathEscape(scope)
	if len(name) > 200 {
		name = DigestOf([]byte(scope)).Hex()
	}
	return filepath.Join(s.dir, "last", name+".json")
}

// readLast returns what is remembered of scope. Nothing depends on it but
// explanations, so what cannot be read is as if it were not there.
func (s *Store) readLast(scope string) *lastBuild {
	none := &lastBuild{Stages: map[string]lastStage{}}
	if scope == "" {
		return none
	}
	b, err := os.ReadFile(s.lastPath(scope))
	if err != nil {
		return none
	}
	var last lastBuild
	if err := unseal(b, &last); err != nil || last.Stages == nil {
		return none
	}
	return &last
}

// writeLast remembers the stages of results that have been built or found, in
// addition to what was remembered of others. When all are as remembered,
// nothing is written.
func (s *Store) writeLast(ws *lazyWorkspace, scope string, before *lastBuild, results []*StageResult) error {
	now := lastBuild{maps.Clone(before.Stages)}
	changed := false
	for _, r := range results {
		if r == nil || r.Status != Built && r.Status != Cached || now.Stages[r.Name].Key == r.Key {
			continue
		}
		now.Stages[r.Name] = lastStage{r.Key, r.fields}
		changed = true
	}
	if scope == "" || !changed {
		return nil
	}
	b, err := seal(now)
	if err != nil {
		return err
	}
	w, err := ws.get()
	if err == nil {
		err = writeFileAtomic(w, s.lastPath(scope), b)
	}
	if err != nil {
		return fmt.Errorf("remember this build of %s: %w", scope, err)
	}
	return nil
}

// explain says why a stage with this key and these fields could be missing
// from the store, as far as the last build tells.
func (l *lastBuild) explain(stage, key string, fields []Field) (reason string, changed []Change) {
	before, ok := l.Stages[stage]
	switch {
	case !ok:
		return "not in the cache yet", nil
	case before.Key == key:
		return "its result is no longer in the cache", nil
	}
	changed = compareFields(before.Fields, fields)
	switch len(changed) {
	case 0:
		return "the order of its inputs changed", nil
	case 1:
		return "1 input changed", changed
	}
	return fmt.Sprintf("%d inputs changed", len(changed)), changed
}

// compareFields lists the differences, in the order of the new fields and
// then of the old ones that are gone.
func compareFields(before, after []Field) []Change {
	was := map[string]string{}
	var order []string
	for _, v := range leaves(before) {
		was[v.label] = v.text
		order = append(order, v.label)
	}
	var changed []Change
	for _, v := range leaves(after) {
		if old := was[v.label]; old != v.text {
			changed = append(changed, shownChange(v.label, old, v.text))
		}
		delete(was, v.label)
	}
	for _, label := range order {
		if old, ok := was[label]; ok {
			changed = append(changed, shownChange(label, old, ""))
		}
	}
	return changed
}

// shownChange shortens both values, keeping the first runes that differ in
// sight.
func shownChange(label, before, after string) Change {
	from := commonPrefix(before, after)
	if before == "" || after == "" || from < maxChangeText/2 {
		from = 0
	}
	return Change{label, shorten(before, from), shorten(after, from)}
}

// commonPrefix returns how many runes two strings have in common at the start.
func commonPrefix(a, b string) int {
	ra, rb := []rune(a), []rune(b)
	n := 0
	for n < len(ra) && n < len(rb) && ra[n] == rb[n] {
		n++
	}
	return n
}

// shorten returns at most maxChangeText runes of s, beginning shortly before
// rune number from.
func shorten(s string, from int) string {
	runes := []rune(s)
	if len(runes) <= maxChangeText {
		return s
	}
	start := max(0, min(from-10, len(runes)-maxChangeText))
	out := string(runes[start:min(len(runes), start+maxChangeText)])
	if start > 0 {
		out = "…" + out
	}
	if start+maxChangeText < len(runes) {
		out += "…"
	}
	return out
}

// A leaf is a field, or a part of a structured one.
type leaf struct{ label, text string }

func leaves(fields []Field) []leaf {
	var all []leaf
	for _, f := range fields {
		switch f.Kind {
		case "json":
			all = appendJSONLeaves(all, f)
		case "string":
			all = append(all, leaf{f.Label, quoteIfNeeded(f.Value)})
		default:
			all = append(all, leaf{f.Label, f.Value})
		}
	}
	return all
}

// appendJSONLeaves takes a structured field apart.
func appendJSONLeaves(all []leaf, f Field) []leaf {
	d := json.NewDecoder(bytes.NewReader([]byte(f.Value)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return append(all, leaf{f.Label, f.Value})
	}
	var walk func(label string, v any)
	walk = func(label string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(label+"."+k, v[k])
			}
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s[%d]", label, i), e)
			}
		case string:
			all = append(all, leaf{label, quoteIfNeeded(v)})
		default:
			all = append(all, leaf{label, fmt.Sprint(v)})
		}
	}
	walk(f.Label, v)
	return all
}

// quoteIfNeeded quotes strings that would be hard to make out on a line.
func quoteIfNeeded(s string) string {
	if s == "" || !utf8.ValidString(s) || fmt.Sprintf("%q", s) != `"`+s+`"` || s[0] == ' ' || s[len(s)-1] == ' ' {
		return fmt.Sprintf("%q", s)
	}
	return s
}
