package health

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/finding"
)

var update = flag.Bool("update", false, "rewrite docs/health.schema.json")

const (
	repository = "../../.."
	schemaFile = repository + "/docs/health.schema.json"
)

// schema makes the JSON Schema of a Machine from the Go types and their comments.
func schema(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{ExpandedStruct: true, AllowAdditionalProperties: true, Mapper: func(of reflect.Type) *jsonschema.Schema {
		switch of {
		case reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.AddrPort]():
			return &jsonschema.Schema{Type: "string"}
		}
		return nil
	}}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(repository) // AddGoComments requires paths relative to the module
	for _, dir := range []string{"internal/contract/health", "internal/contract/guestapi", "internal/contract/runnerapi", "internal/finding"} {
		if err := r.AddGoComments("github.com/sovereign-sql/sov", dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(here)
	for name, text := range r.CommentMap { // the source's line breaks do not belong in the schema
		r.CommentMap[name] = strings.ReplaceAll(text, "\n", " ")
	}
	made := r.Reflect(&Machine{})
	made.ID, made.Title = "", "The health of a machine, as sov status, test and diagnose print it with --json"
	text, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// TestSchema: the published schema matches the types. With -update the schema is rewritten.
func TestSchema(t *testing.T) {
	want := schema(t)
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("docs/health.schema.json is not that of the types (%v): go test ./internal/contract/health -update", err)
	}
}

// TestMachineFitsSchema: the schema accepts printed reports, and refuses other values.
func TestMachineFitsSchema(t *testing.T) {
	schema, err := validator.NewCompiler().Compile(filepath.Clean(schemaFile))
	if err != nil {
		t.Fatal(err)
	}
	fits := func(m any) error {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		value, err := validator.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(value)
	}
	now := time.Now()
	m := New("sql")
	m.State = runnerapi.State{Name: "sql", Phase: runnerapi.Ready, Since: now, LastExit: &runnerapi.Exit{At: now}, RollBack: &runnerapi.RollBack{At: now},
		Network: runnerapi.Network{Host: netip.MustParsePrefix("192.168.100.1/24"), Endpoint: netip.MustParseAddrPort("192.168.100.2:80")}}
	m.AddGuest(&guestapi.Status{Services: []guestapi.Service{{Name: "postgres"}}, Network: &guestapi.Network{}, Clock: &guestapi.Clock{}, Tailnet: &guestapi.Tailnet{}, Postgres: &guestapi.Postgres{}})
	m.Slots, m.Backup, m.Certificate, m.Power = []runnerapi.Slot{{Slot: "a"}}, &Backup{At: now, Databases: []string{}}, &Certificate{}, &Power{}
	m.Layers, m.Checks = []finding.Finding{finding.Pass("tap", "it is up")}, []finding.Finding{finding.Skip("Tailscale", "no key")}
	down := New("sql")
	down.Phase = runnerapi.Down
	for _, m := range []*Machine{down, m} {
		if err := fits(m); err != nil {
			t.Error(err)
		}
	}
	if fits(map[string]any{"name": 1}) == nil || fits(map[string]any{"name": "sql"}) == nil {
		t.Error("the schema takes an object without a phase")
	}
}
