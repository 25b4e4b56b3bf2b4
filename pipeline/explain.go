package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// WriteExplanation writes a readable report: for each stage its status and key and, if it was not
// cached, the reason and the changes since the last build.
func (r *Result) WriteExplanation(w io.Writer) error {
	width := 0
	for _, st := range r.Stages {
		width = max(width, len(st.Name))
	}
	var b strings.Builder
	for _, st := range r.Stages {
		key := st.Key
		if key == "" {
			key = "(key not known yet)"
		}
		fmt.Fprintf(&b, "%-*s  %-7s  %s\n", width, st.Name, st.Status, key)
		indent := strings.Repeat(" ", width+2)
		if st.Remote != "" {
			fmt.Fprintf(&b, "%sfrom %s\n", indent, st.Remote)
		}
		if st.Reason != "" {
			fmt.Fprintf(&b, "%s%s\n", indent, st.Reason)
		}
		for _, c := range st.Changed {
			fmt.Fprintf(&b, "%s  %s\n", indent, c)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// A change is one input that differs from the last build. Old or New is "" if the input was not
// there.
type change struct {
	// Label is the label of the key's field. For a structured field (JSON), the path of the changed
	// part follows, as in "settings.shared_buffers".
	Label    string
	Old, New string
}

// maxChangeText is the number of runes of a value that a change shows.
const maxChangeText = 60

// String returns the change for people: `label: old → new`.
func (c change) String() string {
	switch {
	case c.Old == "":
		return fmt.Sprintf("%s: added, %s", c.Label, c.New)
	case c.New == "":
		return fmt.Sprintf("%s: removed, was %s", c.Label, c.Old)
	}
	return fmt.Sprintf("%s: %s → %s", c.Label, c.Old, c.New)
}

// explain returns the reason why the store lacks a stage with this key and these fields, by
// comparing them with the last build.
func explain(last map[string]store.StageKey, stage, key string, fields []store.Field) (reason string, changed []string) {
	before, ok := last[stage]
	switch {
	case !ok:
		return "not in the cache yet", nil
	case before.Key == key:
		return "its result is no longer in the cache", nil
	}
	for _, c := range compareFields(before.Fields, fields) {
		changed = append(changed, c.String())
	}
	switch len(changed) {
	case 0:
		return "the order of its inputs changed", nil
	case 1:
		return "1 input changed", changed
	}
	return fmt.Sprintf("%d inputs changed", len(changed)), changed
}

// compareFields lists the differences, in the order of the new fields and then of the old ones that
// are gone.
func compareFields(before, after []store.Field) []change {
	was := map[string]string{}
	var order []string
	for _, v := range leaves(before) {
		was[v.label] = v.text
		order = append(order, v.label)
	}
	var changed []change
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

// shownChange shortens both values so that their first difference is visible.
func shownChange(label, before, after string) change {
	from := commonPrefix(before, after)
	if before == "" || after == "" || from < maxChangeText/2 {
		from = 0
	}
	return change{label, shorten(before, from), shorten(after, from)}
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

// shorten returns at most maxChangeText runes of s, beginning shortly before rune number from.
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

func leaves(fields []store.Field) []leaf {
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
func appendJSONLeaves(all []leaf, f store.Field) []leaf {
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

// quoteIfNeeded quotes strings that would be ambiguous on a line, such as empty ones.
func quoteIfNeeded(s string) string {
	if s == "" || !utf8.ValidString(s) || fmt.Sprintf("%q", s) != `"`+s+`"` || s[0] == ' ' || s[len(s)-1] == ' ' {
		return fmt.Sprintf("%q", s)
	}
	return s
}
