package install

import (
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/host/secrets"
)

// TestWithDataKey: which keys a phone gets depends on its disks and on where the recipe stores the
// key. A key is made only for a disk that does not exist. A disk of the other kind is refused.
func TestWithDataKey(t *testing.T) {
	const key, old = guestspec.SecretDataKey, guestspec.SecretOldDataKey
	encrypted := []byte("LUKS\xba\xbe")
	for name, tt := range map[string]struct {
		place vmspec.KeyPlace
		kept  string // names of secrets on the computer
		there string // names of secrets on the phone
		disk  func(path string) error
		want  string // sent, and "made" if a key was made
		left  string // secrets of there that stay on the phone
		fault string
		plain bool // the data disk is not encrypted, and the volume media is tested
	}{
		"not encrypted":            {"", key + " postgres", "", nil, "postgres", "", "", false},
		"what stays here":          {"", "postgres tailscale-api", "", nil, "postgres", "", "", false},
		"first push":               {vmspec.KeyOnPhone, "postgres", "", nil, "made data-key postgres", "", "", false},
		"first push, kept at home": {vmspec.KeyOnHost, "postgres", "", nil, "made postgres", "", "", false},
		"later":                    {vmspec.KeyOnPhone, key, key, data(encrypted), "data-key", key, "", false},
		"during a change":          {vmspec.KeyOnPhone, key + " " + old, key, data(encrypted), "data-key data-key-old", key, "", false},
		"from another computer":    {vmspec.KeyOnPhone, "", key, data(encrypted), "", key, "", false},
		"not kept there any more":  {vmspec.KeyOnHost, key, key + " " + old, data(encrypted), "", "", "", false},
		"lost":                     {vmspec.KeyOnPhone, "", "", data(encrypted), "", "", "its key is not on this computer", false},
		"lost, kept at home":       {vmspec.KeyOnHost, "", key, data(encrypted), "", key, "its key is not on this computer", false},
		"not formatted yet": {vmspec.KeyOnPhone, key, "", func(path string) error {
			return datadisk.Spec{Size: datadisk.MinSize, Encrypted: true}.Create(t.Context(), path)
		}, "data-key", "", "", false},
		"a plain disk":               {vmspec.KeyOnPhone, key, "", func(path string) error { return datadisk.Create(t.Context(), path, datadisk.MinSize) }, "", "", "is never converted", false},
		"a plain disk, kept at home": {vmspec.KeyOnHost, "", "", func(path string) error { return datadisk.Create(t.Context(), path, datadisk.MinSize) }, "", "", "is never converted", false},
		"a first encrypted volume":   {place: vmspec.KeyOnPhone, kept: "postgres", want: "made data-key postgres", plain: true},
		"a volume later":             {place: vmspec.KeyOnPhone, kept: key, there: key, disk: data(encrypted), want: "data-key", left: key, plain: true},
		"the key of a volume lost":   {place: vmspec.KeyOnPhone, disk: data(encrypted), fault: "the volume media of sql", plain: true},
		"a plain volume":             {place: vmspec.KeyOnPhone, kept: key, disk: func(path string) error { return datadisk.Create(t.Context(), path, datadisk.MinSize) }, fault: "the volume media of sql", plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := phonepath.Root(t.TempDir())
			vm, err := root.VM("sql")
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{vm.Dir(), vm.Secrets()} {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range strings.Fields(tt.there) {
				if err := os.WriteFile(path.Join(vm.Secrets(), name), []byte("on the phone"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			disks, file := []vmspec.Disk{{Role: vmspec.RoleData, Key: tt.place}}, vm.Data()
			if tt.plain {
				if err := os.MkdirAll(vm.Volumes(), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := datadisk.Create(t.Context(), file, datadisk.MinSize); err != nil {
					t.Fatal(err)
				}
				disks, file = []vmspec.Disk{{Role: vmspec.RoleData}, {Role: vmspec.RoleVolume, Name: "media", Key: tt.place}}, vm.Volume("media")
			}
			if tt.disk != nil {
				if err := tt.disk(file); err != nil {
					t.Fatal(err)
				}
			}
			made := false
			m := &Machine{
				Artifact: &push.Artifact{Artifact: &installed.Artifact{Manifest: &manifest.Manifest{Name: "sql"},
					Spec: &vmspec.Spec{Disks: disks}}},
				MakeDataKey: func() ([]byte, error) { made = true; return []byte("made"), nil },
			}
			kept := map[string][]byte{}
			for _, name := range strings.Fields(tt.kept) {
				kept[name] = []byte("kept")
			}
			s := &fleet.Site{Phone: device.Local(root, nil), Out: io.Discard, ErrOut: io.Discard}
			got, err := m.withDataKey(t.Context(), s, kept)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) || made {
					t.Errorf("made %t, %v, want %q", made, err, tt.fault)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			sent := slices.Sorted(maps.Keys(got))
			if made {
				sent = slices.Insert(sent, 0, "made")
			}
			if strings.Join(sent, " ") != tt.want {
				t.Errorf("sent %q, want %q", sent, tt.want)
			}
			entries, err := os.ReadDir(vm.Secrets())
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, e := range entries {
				left = append(left, e.Name())
			}
			if strings.Join(left, " ") != tt.left {
				t.Errorf("left %q, want %q", left, tt.left)
			}
		})
	}
}

// data returns a function that writes a file with content and 4096 zeros.
func data(content []byte) func(path string) error {
	return func(path string) error { return os.WriteFile(path, append(content, make([]byte, 4096)...), 0o600) }
}

// TestDataKeys: sov-runner gets the keys of a machine only if the phone does not store them.
func TestDataKeys(t *testing.T) {
	root := phonepath.Root(t.TempDir())
	vm, err := root.VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	store := secrets.Open(path.Join(t.TempDir(), "secrets"), secrets.Keys{})
	s := &fleet.Site{Phone: device.Local(root, nil), Out: io.Discard, ErrOut: io.Discard}
	want := func(when, want string) {
		t.Helper()
		if got, err := DataKeys(t.Context(), s, store, "sql"); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", when, got, err, want)
		}
	}
	want("without a key", "")
	if err := store.Set("sql", guestspec.SecretDataKey, []byte("k")); err != nil {
		t.Fatal(err)
	}
	want("not installed", "")
	if err := os.MkdirAll(vm.Current(), 0o700); err != nil {
		t.Fatal(err)
	}
	for place, keys := range map[string]string{"phone": "", "host": `{"data-key":"k"}`} {
		text := `{"disks": [{"role": "data", "key": "` + place + `"}], "of_a_later_release": true}`
		if err := os.WriteFile(path.Join(vm.Current(), "vm.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want(place, keys)
	}
}
