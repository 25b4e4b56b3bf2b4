package phonetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

// CutPushes cuts the cable at random points of pushes, the given number of times. After each cut
// the phone must have the complete old or new version, and the next push must finish the update.
func CutPushes(t *testing.T, cuts int) {
	t.Helper()
	p := NewPushed(t, androidtest.NewADBServer(t))
	link := device.ADB(p.Server.Program(), p.ADB.Serial())
	random := rand.New(rand.NewPCG(5, 5))
	version := func(i int) *push.Artifact {
		t.Helper()
		rootfs := append(artifacttest.Noise(200_000, uint64(i)), artifacttest.Noise(500_000, uint64(i/2))...)
		a, err := push.Open(t.Context(), artifacttest.Make(t, "sql", fmt.Sprint(i), artifacttest.Noise(60_000, uint64(i)), rootfs), func(int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	send := func(a *push.Artifact) (*push.Result, error) {
		return push.Send(t.Context(), link, a, func(push.Progress) {})
	}
	o := p.Sov("push", filepath.Join(artifacttest.Make(t, "sql", "0", []byte("kernel"), []byte("rootfs"))), "--device", p.ADB.Serial())
	if o.Status != 0 {
		t.Fatal(o)
	}
	current, whole, resumed := p.Whole(), 0, 0
	for i := range cuts {
		next := version(i)
		p.ADB.CutAfter(random.Int64N(800_000))
		_, err := send(next)
		now := p.Whole()
		if now != current && now != next.Digest || err == nil && now != next.Digest {
			t.Fatalf("cut %d: %v: current is neither the old nor the new version", i, err)
		}
		p.Server.Connect(p.ADB)
		if random.IntN(2) == 0 {
			r, err := send(next)
			if err != nil {
				t.Fatalf("the push after cut %d: %v", i, err)
			}
			if r.Resumed > 0 {
				resumed++
			}
			if now = p.Whole(); now != next.Digest {
				t.Fatalf("the push after cut %d: another version is current", i)
			}
		}
		if now != current {
			whole++
		}
		current = now
	}
	t.Logf("%d of %d versions came through, %d pushes went on from what had come", whole, cuts, resumed)
	if _, err := os.Stat(p.File(p.VM.Data())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a push made a data disk: %v", err)
	}
}
