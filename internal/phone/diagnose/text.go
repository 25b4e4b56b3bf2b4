package diagnose

import (
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/finding"
)

// Print writes the result of a diagnosis as text.
func Print(w io.Writer, m *health.Machine) error {
	for _, done := range m.Fixed {
		fmt.Fprintf(w, "fixed: %s\n", done)
	}
	if err := finding.Print(w, m.Layers); err != nil {
		return err
	}
	verdict := "nothing is broken"
	for _, f := range m.Layers {
		if f.Check == m.Cause {
			verdict = "the cause is " + f.Title
		}
	}
	_, err := fmt.Fprintf(w, "\n%s: %s\n", m.Name, verdict)
	return err
}
