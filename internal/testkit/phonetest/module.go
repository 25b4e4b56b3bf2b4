package phonetest

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/stages/module"
)

// Flash packs an artifact's folder into a module, lets the phone's root manager install it, and
// returns the manager's output. The machine changes at once, everything else at the next boot. The
// module of a signed artifact has its signature. It contains the test's runner, because the
// simulated phone has this computer's processor.
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
	if envelope, err := os.ReadFile(filepath.Join(dir, artifact.SignedFile)); err == nil {
		h.sign(h.File(at), envelope)
	}
	return h.InstallModule(at)
}

func (h *Handset) sign(path string, envelope []byte) {
	h.T.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		h.T.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(old), int64(len(old)))
	if err != nil {
		h.T.Fatal(err)
	}
	var signed bytes.Buffer
	if err := module.WriteSigned(h.T.Context(), &signed, archive, envelope, h.T.TempDir()); err != nil {
		h.T.Fatal(err)
	}
	if err := os.WriteFile(path, signed.Bytes(), 0o644); err != nil {
		h.T.Fatal(err)
	}
}

// MustFlash is Flash, and fails the test on an error.
func (h *Handset) MustFlash(dir string) {
	h.T.Helper()
	said, err := h.Flash(dir)
	if err != nil {
		h.T.Fatal(err)
	}
	h.T.Log(said)
}
