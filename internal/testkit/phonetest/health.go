package phonetest

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// healthSchema returns the published schema of the JSON output of status, test and diagnose.
var healthSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile(filepath.Join(sovtest.Root(), "docs", "health.schema.json"))
})

// Health decodes a machine's health from a command's JSON output and validates it against the
// published schema.
func Health(t testing.TB, printed string) *health.Machine {
	t.Helper()
	schema, err := healthSchema()
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(printed))
	if err != nil {
		t.Fatalf("%v in %q", err, printed)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("the health of a machine does not fit its schema: %v\n%s", err, printed)
	}
	m := new(health.Machine)
	if err := json.Unmarshal([]byte(printed), m); err != nil {
		t.Fatal(err)
	}
	return m
}
