package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// TestOnAll: each line starts with its phone's name. JSON is part of the answers. A failure is
// worse than a finding.
func TestOnAll(t *testing.T) {
	var phones []device.Phone
	for range 3 {
		phones = append(phones, device.Local(phonepath.Root(t.TempDir()), nil))
	}
	var out, errOut bytes.Buffer
	do := func(_ context.Context, s *Site) error {
		fmt.Fprintln(s.ErrOut, "working\x1b[31m")
		switch s.Name() {
		case phones[0].Name():
			fmt.Fprintln(s.Out, `{"fine": true}`)
			return nil
		case phones[1].Name():
			fmt.Fprintln(s.Out, "no JSON")
			return &FoundError{What: "something"}
		}
		return errors.New("broken")
	}
	answers := OnAll(t.Context(), phones, &out, &errOut, true, do)
	text, err := json.Marshal(answers[1])
	if err != nil || !strings.Contains(string(text), `"error":"something","found":true`) || strings.Contains(string(text), "result") {
		t.Errorf("%s, %v", text, err)
	}
	if string(answers[0].Result) != "{\"fine\": true}\n" || out.Len() > 0 || strings.Count(errOut.String(), ": working\n") != 3 {
		t.Errorf("%+v: %s%s", answers, out.String(), errOut.String())
	}
	if err := Sum(answers); err == nil || err.Error() != phones[2].Name()+": broken" {
		t.Errorf("with a failure: %v", err)
	}
	if err := Sum(answers[:2]); !errors.As(err, new(*FoundError)) {
		t.Errorf("with something found: %v", err)
	}
	if err := Sum(answers[:1]); err != nil {
		t.Error(err)
	}
	OnAll(t.Context(), phones, &out, &errOut, false, do)
	lines := slices.Sorted(strings.Lines(out.String()))
	if len(lines) != 2 || !slices.ContainsFunc(lines, func(l string) bool { return l == phones[1].Name()+": no JSON\n" }) {
		t.Errorf("%q", lines)
	}
}
