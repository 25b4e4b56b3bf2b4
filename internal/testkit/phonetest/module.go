package phonetest

import (
	"io"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/stages/module"
)

// Flash makes a module of an artifact's folder and has the phone's root manager install it, which takes effect at the next
// boot but for the machine. The runner in it is the phone's own: the simulated phone has this computer's processor.
func (h *Handset) Flash(dir string) (said string, err error) {
	h.T.Helper()
	a, err := installed.Load(dir)
	if err != nil {
		h.T.Fatal(err)
	}
	at := "/data/local/tmp/" + a.Manifest.Name + ".zip"
	archive, err := os.Create(h.File(at))
	if err != nil {
		h.T.Fatal(err)
	}
	open := func(name string) (io.ReadCloser, error) {
		if name == "sov-runner" {
			return os.Open(androidtest.Runner(h.T))
		}
		return os.Open(filepath.Join(dir, name))
	}
	if err := module.Write(h.T.Context(), archive, a.Manifest, a.Files, open, h.T.TempDir()); err != nil {
		h.T.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		h.T.Fatal(err)
	}
	return h.InstallModule(at)
}

// MustFlash is Flash that has to succeed.
func (h *Handset) MustFlash(dir string) {
	h.T.Helper()
	said, err := h.Flash(dir)
	if err != nil {
		h.T.Fatal(err)
	}
	h.T.Log(said)
}
