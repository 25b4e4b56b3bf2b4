// Package finding defines the result of a check: what was checked, its status, what was found, and
// what to do about it. The checks of the computer, a phone, a running machine, an artifact, a cache
// and a file system return it.
package finding

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Verdict is the outcome of a check.
type Verdict string

// Verdicts.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // it works or is optional, but the user should know
	Failed  Verdict = "failed"
	Unknown Verdict = "unknown" // the check could not be made
	Skipped Verdict = "skipped" // the machine does not have what would be checked, or it cannot be checked from here
)

// A Finding is the result of one check.
type Finding struct {
	Check    string  `json:"check"`              // what was checked: a stable name, or the path of a file
	Title    string  `json:"title,omitempty"`    // displayed name, if other than Check
	Group    string  `json:"group,omitempty"`    // the group of checks it belongs to
	Verdict  Verdict `json:"verdict"`            //
	Examined string  `json:"examined,omitempty"` // what the check looked at
	Found    string  `json:"found"`              // the result
	Cause    string  `json:"cause,omitempty"`    // the most likely cause
	Advice   string  `json:"advice,omitempty"`   // what the user can do
	Fixable  bool    `json:"fixable,omitempty"`  // the program can repair it
	Fixed    bool    `json:"fixed,omitempty"`    // the program has repaired it
	// ConsequenceOf is the Check of the failed finding that explains this one.
	ConsequenceOf string `json:"consequence_of,omitempty"`
	Millis        int64  `json:"ms,omitempty"` // time that the check took, in milliseconds
}

// Pass returns the finding of a check that passed.
func Pass(check, format string, args ...any) Finding {
	return Finding{Check: check, Verdict: OK, Found: fmt.Sprintf(format, args...)}
}

// Fail returns the finding of a check that failed.
func Fail(check, found, advice string) Finding {
	return Finding{Check: check, Verdict: Failed, Found: found, Advice: advice}
}

// Skip returns the finding of a check that is not needed.
func Skip(check, found string) Finding {
	return Finding{Check: check, Verdict: Skipped, Found: found}
}

// String returns the finding as "CHECK: FOUND", for a list or an error.
func (f Finding) String() string { return f.Name() + ": " + f.Found }

// Name returns the check's displayed name.
func (f Finding) Name() string {
	if f.Title != "" {
		return f.Title
	}
	return f.Check
}

// Failures returns the findings whose verdict is Failed, in their order.
func Failures(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Verdict != Failed })
}

// marks are the verdicts as printed in the first column.
var marks = map[Verdict]string{OK: "ok", Warning: "warning", Failed: "FAILED", Unknown: "?", Skipped: "-"}

// Print writes a table: a line for each finding and, below one that is not OK, its cause and
// advice.
func Print(w io.Writer, findings []Finding) error {
	width := 0
	title := map[string]string{}
	for _, f := range findings {
		width = max(width, len(f.Name()))
		title[f.Check] = f.Name()
	}
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%-7s  %-*s  %s\n", marks[f.Verdict], width, f.Name(), f.Found)
		more := func(format, text string) {
			if text != "" {
				fmt.Fprintf(&b, "%*s"+format+"\n", len("warning")+width+4, "", text)
			}
		}
		if f.ConsequenceOf != "" {
			more("a consequence of %s", title[f.ConsequenceOf])
			continue
		}
		more("likely: %s", f.Cause)
		more("→ %s", f.Advice)
		if f.Fixable && f.Verdict == Failed {
			more("%s", "--fix repairs this")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
