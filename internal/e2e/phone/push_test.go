package phone

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

func TestPushCut(t *testing.T) {
	t.Parallel()
	phonetest.CutPushes(t, 10)
}

// TestPushSeveral pushes to two phones at once, also when one is full or cannot run the machine.
// Each gets a separate result.
func TestPushSeveral(t *testing.T) {
	t.Parallel()
	server := androidtest.NewADBServer(t)
	one, two := phonetest.NewPushed(t, server), phonetest.NewPushed(t, server)
	dir := artifacttest.Make(t, "sql", "1", artifacttest.Noise(200_000, 1), artifacttest.Noise(3<<20, 2))
	both := []string{"push", dir, "--json", "--device", one.ADB.Serial(), "--device", two.ADB.Serial()}
	o := one.Sov(both...)
	var answers []struct {
		Device string
		Result push.Result
		Error  string
	}
	if err := json.Unmarshal([]byte(o.Stdout), &answers); err != nil || o.Status != 0 || len(answers) != 2 {
		t.Fatalf("%v: %v", err, o)
	}
	if one.Whole() != two.Whole() {
		t.Error("the phones have different versions")
	}
	// The second has no space for a larger version; the first accepts it.
	two.LimitDisk(50 << 20)
	begun := time.Now()
	both[1] = artifacttest.Make(t, "sql", "2", artifacttest.Noise(200_000, 1), artifacttest.Noise(30<<20, 3))
	before, passed := two.Whole(), two.ADB.Passed()
	o = one.Sov(both...)
	if o.Status == 0 || !strings.Contains(o.Stderr, two.ADB.Serial()) || !strings.Contains(o.Stderr, "room") {
		t.Errorf("a full phone: %v", o)
	}
	if two.Whole() != before || two.ADB.Passed()-passed > 1<<20 || one.Whole() == before {
		t.Errorf("a full phone: %d bytes were sent to it in %v", two.ADB.Passed()-passed, time.Since(begun))
	}
	if o := two.Sov("push", artifacttest.Make(t, "sql", "3", []byte("k"), []byte("r")), "--arch", "amd64", "--device", two.ADB.Serial(), "--json"); o.Status != 0 {
		t.Errorf("a folder says itself what it is for: %v", o)
	}
}
