package guestspec

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// FuzzLoad reads the files of a root file system as the guest's process 1 does.
func FuzzLoad(f *testing.F) {
	postgres, err := os.ReadFile("testdata/postgres.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(minimal), postgres)
	f.Add([]byte(minimal), []byte(`{"name":"a","command":["/bin/a"],"ready":{},"restart":{},"stop":{}}`))
	f.Add([]byte(strings.Repeat("[", 10_000)), []byte(`{"name":"a"}`))
	f.Fuzz(func(t *testing.T, config, service []byte) {
		root := fstest.MapFS{"etc/sov/guest.json": {Data: config}, "etc/sov/services/a.json": {Data: service}}
		var c Config
		var err error
		costtest.Text.Run(t, len(config)+len(service), func() { c, err = Load(root) })
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("what is loaded is not valid: %v", err)
		}
		for _, s := range c.Services {
			if !ValidServiceName(s.Name) || strings.ContainsAny(s.Name, "/\x00\n\x1b") {
				t.Errorf("a service is called %q", s.Name)
			}
		}
	})
}
