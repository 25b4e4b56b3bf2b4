package diagnose

import (
	"fmt"
	"io"
	"strings"
)

// marks are the verdicts as they stand in the first column.
var marks = map[Verdict]string{OK: "ok", Broken: "BROKEN", Unknown: "?", Off: "off"}

// Print writes a report for people.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	for _, done := range r.Fixed {
		fmt.Fprintf(&b, "fixed: %s\n", done)
	}
	for i, l := range r.Layers {
		fmt.Fprintf(&b, "%d %-18s  %-6s  %s\n", i+1, l.Title, marks[l.Verdict], l.Found)
		if l.Verdict == Broken && l.ConsequenceOf == "" {
			indent := strings.Repeat(" ", 30)
			if l.Cause != "" {
				fmt.Fprintf(&b, "%slikely: %s\n", indent, l.Cause)
			}
			if l.Fixable {
				fmt.Fprintf(&b, "%s--fix repairs this\n", indent)
			}
		}
		if l.ConsequenceOf != "" {
			fmt.Fprintf(&b, "%sa consequence of %s\n", strings.Repeat(" ", 30), title(l.ConsequenceOf))
		}
	}
	if !r.Broken() {
		fmt.Fprintf(&b, "\n%s: nothing is broken\n", r.Name)
	} else {
		fmt.Fprintf(&b, "\n%s: the cause is %s\n", r.Name, title(r.Cause))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func title(layer Layer) string {
	for _, t := range titles {
		if t.layer == layer {
			return t.title
		}
	}
	return string(layer)
}
