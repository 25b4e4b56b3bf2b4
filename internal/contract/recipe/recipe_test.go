package recipe

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/strictyaml"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const minimal = "name: tiny\nbase: {image: alpine}\n"

func TestSQL(t *testing.T) {
	text, err := assets.Recipe("sql")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse("sql.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "sql" || !r.Postgres.Enabled || !r.Tailscale.Enabled || r.VM.Memory != GiB || r.VM.Data != 8*GiB {
		t.Errorf("got %+v", r)
	}
}

func TestDefaults(t *testing.T) {
	r, err := Parse("tiny.yaml", []byte(minimal+`
users: [{name: app, uid: 1000, gid: 1000}]
directories: [{path: /srv/app, owner: app}]
services: [{name: app, command: [/bin/app]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if r.Network.Hostname != "tiny" || r.Tailscale.Hostname != "tiny" || r.Rootfs.Label != "tiny" {
		t.Errorf("names: %+v %+v %+v", r.Network, r.Tailscale, r.Rootfs)
	}
	wantUser := User{Name: "app", UID: 1000, GID: 1000, Group: "app", Home: "/", Shell: "/sbin/nologin"}
	if diff := cmp.Diff([]User{wantUser}, r.Users); diff != "" {
		t.Error(diff)
	}
	if d := r.Directories[0]; d.Mode != 0o755 || d.Owner != "app" {
		t.Errorf("directory: %+v", d)
	}
	wantService := Service{Name: "app", Command: []string{"/bin/app"}, User: "root", Directory: "/",
		Ready: Ready{Timeout: Duration(time.Minute)}, Restart: Restart{Policy: "always", Backoff: Duration(time.Second)},
		Stop: Stop{Signal: "SIGTERM", Timeout: Duration(10 * time.Second)}, OOMScore: new(200), Limits: Limits{Processes: 512}}
	if diff := cmp.Diff([]Service{wantService}, r.Services); diff != "" {
		t.Error(diff)
	}
}

// TestFaults compares the errors for each malformed recipe in testdata with the text beside it.
func TestFaults(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recipes in testdata: %v", err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(name, src)
			var faults strictyaml.Errors
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want faults with their places", err)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".txt"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestFsyncSpellings(t *testing.T) {
	for value, ok := range map[string]bool{"on": true, "true": true, "ON": true, "1": true,
		"off": false, "false": false, "0": false, "no": false, "\"of\"": false, "f": false, "nonsense": false, "\" off\"": false} {
		_, err := Parse("r.yaml", []byte(minimal+"postgres: {enabled: true, settings: {fsync: "+value+"}}\n"))
		if (err == nil) != ok {
			t.Errorf("fsync: %s gives %v", value, err)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"8GiB": 8 * GiB, "512 MiB": 512 * MiB, "4KiB": 4 * KiB, "0": 0, "1TiB": TiB} {
		var got Size
		if err := got.UnmarshalScalar(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "8", "8GB", "-1GiB", "1.5GiB", "GiB", "99999999999TiB", "8gib", "0x8GiB"} {
		var got Size
		if err := got.UnmarshalScalar(text); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
	for size, want := range map[Size]string{8 * GiB: "8GiB", 1536 * MiB: "1536MiB", 5: "5", 0: "0"} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %s, want %s", int64(size), got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := assets.Recipe("sql")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(minimal))
	f.Add([]byte("a: &x [*x]\n? b\n: !!int c\n--- |\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		defer costtest.Text.Watch(t, len(src))()
		r, err := Parse("fuzz.yaml", src)
		if err == nil && (r.Name == "" || r.Base.Image == "") {
			t.Errorf("accepted without a name or an image: %+v", r)
		}
	})
}

// TestEncrypt: an encrypted data disk adds its packages and its secret.
func TestEncrypt(t *testing.T) {
	const repositories = "packages: {repositories: [r], install: [e2fsprogs>=1.47, cryptsetup-doc]}\n"
	r, err := Parse("tiny.yaml", []byte(minimal+repositories+"vm: {encrypt: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"e2fsprogs>=1.47", "cryptsetup-doc", "cryptsetup"}, r.Packages.Install); diff != "" || r.VM.DataKey != DataKeyOnPhone {
		t.Errorf("key on %s; packages %s", r.VM.DataKey, diff)
	}
	if diff := cmp.Diff([]string{"data-key"}, r.Secrets()); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"vm: {data_key: host}":                   "vm.encrypt is not true",
		"vm: {encrypt: true, data_key: nowhere}": "must be phone or host",
	} {
		if _, err := Parse("tiny.yaml", []byte(minimal+repositories+text+"\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
