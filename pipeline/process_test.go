package pipeline

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// childEnv makes the test binary a building process. Its value is the mode, "loop" or "once", the
// first round and the directory of the store.
const childEnv = "PIPELINE_TEST_CHILD"

func TestMain(m *testing.M) {
	if args := strings.SplitN(os.Getenv(childEnv), " ", 3); len(args) == 3 {
		if err := child(args[0], args[1], args[2]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(mode, firstRound, dir string) error {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	switch mode {
	case "loop":
		round, err := strconv.Atoi(firstRound)
		if err != nil {
			return err
		}
		return buildForever(s, round)
	case "once":
		return buildWhenTold(s)
	}
	return fmt.Errorf("mode %q", mode)
}

// startChild starts this test binary as a building process.
func startChild(t *testing.T, mode string, round int, dir string) (*exec.Cmd, io.WriteCloser, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", childEnv, mode, round, dir))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, stdin, bufio.NewScanner(stdout)
}

// roundStages returns a build that uses everything that the store offers: outputs written in
// sequence and at random offsets, a memo, a scratch directory, two stages at once. Its content
// depends on round only.
func roundStages(round int) []Stage {
	part := func(name string) *testStage {
		return &testStage{name: name,
			key: func(k *Key, _ Inputs) error { k.Add("round", round); return nil },
			run: func(ctx context.Context, j *Job) error {
				if _, err := j.Scratch(); err != nil {
					return err
				}
				b, err := j.Memo(ctx, fmt.Sprint("download ", round/2), func(w *Writer) error {
					_, err := w.Write(randomBytes(uint64(round/2), 200<<10))
					return err
				})
				if err != nil {
					return err
				}
				if err := j.Attach("download", b); err != nil {
					return err
				}
				_, err = j.Write("out", randomBytes(uint64(round), 100<<10))
				return err
			}}
	}
	image := &testStage{name: "image", needs: []string{"a", "b"}, run: func(_ context.Context, j *Job) error {
		w, err := j.Create("out")
		if err != nil {
			return err
		}
		defer w.Abort()
		w.Truncate(1 << 20)
		for i, name := range []string{"a", "b"} {
			b, err := j.ReadFile(name, "out")
			if err != nil {
				return err
			}
			w.WriteAt(b, int64(i)<<19)
		}
		_, err = w.Commit()
		return err
	}}
	return []Stage{part("a"), part("b"), image}
}

// roundImage returns the digest of the last output of roundStages.
func roundImage(round int) Digest {
	want := make([]byte, 1<<20)
	part := randomBytes(uint64(round), 100<<10)
	copy(want, part)
	copy(want[1<<19:], part)
	return DigestOf(want)
}

// buildForever builds round after round and exports each, until it is killed.
func buildForever(s *Store, round int) error {
	ctx := context.Background()
	e := &Engine{Store: s, Scope: "loop", Jobs: 2}
	for ; ; round++ {
		res, err := e.Build(ctx, roundStages(round))
		if err != nil {
			return err
		}
		b, err := res.Output("image", "out")
		if err != nil {
			return err
		}
		if _, err := s.Export(ctx, b, filepath.Join(filepath.Dir(s.Dir()), "image"), 0o644); err != nil {
			return err
		}
		fmt.Println(round)
	}
}

// TestKilledAtAnyPoint kills a building process fifty times, each at a random point. Every time the
// store must be sound and the next build correct.
func TestKilledAtAnyPoint(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "cache")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	round := 0
	for kill := range 50 {
		cmd, _, lines := startChild(t, "loop", round, dir)
		// Kill it while it works, within the time that a few rounds take.
		lines.Scan()
		time.Sleep(time.Duration(rng.Int64N(int64(40 * time.Millisecond))))
		cmd.Process.Kill()
		last := lines.Text()
		for lines.Scan() {
			last = lines.Text()
		}
		cmd.Wait()
		done, err := strconv.Atoi(last)
		if err != nil {
			t.Fatalf("kill %d: the process said %q", kill, last)
		}
		round = done + 1 // the killed process was building it
		checkAfterKill(t, root, kill, round)
		round++
		if kill%5 == 4 { // Verify takes longer with each round
			if _, err := openStore(t, dir).Prune(context.Background(), store.PruneOptions{All: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkAfterKill checks that the store is sound, and that a build of round is correct and removes
// what the killed process has left.
func checkAfterKill(t *testing.T, root string, kill, round int) {
	t.Helper()
	s := openStore(t, filepath.Join(root, "cache"))
	v, err := s.Verify(context.Background(), store.VerifyOptions{})
	if err != nil || len(v.Problems) > 0 {
		t.Fatalf("kill %d: verify: %v %+v", kill, err, v.Problems)
	}
	res := mustBuild(t, &Engine{Store: s, Jobs: 2}, roundStages(round)...)
	b, err := res.Output("image", "out")
	if err != nil || b.Digest != roundImage(round) {
		t.Fatalf("kill %d: round %d was built wrong after the kill (%v)", kill, round, err)
	}
	image := filepath.Join(root, "image")
	if _, err := s.Export(context.Background(), b, image, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(image); err != nil || DigestOf(got) != b.Digest {
		t.Fatalf("kill %d: the exported file is wrong (%v)", kill, err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, ".image.*")); len(left) > 0 {
		t.Fatalf("kill %d: half an export is left: %v", kill, left)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Dir(), "tmp")); len(left) > 0 {
		t.Fatalf("kill %d: tmp is not empty after the next build", kill)
	}
}

// buildWhenTold builds one slow stage that prints "run" and continues when it reads a line. It
// prints "wait" when it waits for another process.
func buildWhenTold(s *Store) error {
	log := &eventLog{on: func(e progress.Event) {
		if e.Type == progress.EventWait {
			fmt.Println("wait")
		}
	}}
	st := &testStage{name: "slow", run: func(_ context.Context, j *Job) error {
		fmt.Println("run")
		bufio.NewScanner(os.Stdin).Scan()
		_, err := j.Write("out", []byte("slow"))
		return err
	}}
	res, err := (&Engine{Store: s, Progress: log}).Build(context.Background(), []Stage{st})
	if err != nil {
		return err
	}
	fmt.Println(res.Stages[0].Status)
	return nil
}

func expectLine(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("the process said %q, want %q", lines.Text(), want)
	}
}

func TestTwoProcessesDoTheWorkOnce(t *testing.T) {
	dir := t.TempDir()
	_, tell, first := startChild(t, "once", 0, dir)
	expectLine(t, first, "run")
	_, _, second := startChild(t, "once", 0, dir)
	expectLine(t, second, "wait")
	fmt.Fprintln(tell, "go on")
	expectLine(t, first, "built")
	expectLine(t, second, "cached")
}

func TestWaitingProcessTakesOverFromAKilledOne(t *testing.T) {
	dir := t.TempDir()
	cmd, _, first := startChild(t, "once", 0, dir)
	expectLine(t, first, "run")
	_, tell, second := startChild(t, "once", 0, dir)
	expectLine(t, second, "wait")
	cmd.Process.Kill()
	expectLine(t, second, "run")
	fmt.Fprintln(tell, "go on")
	expectLine(t, second, "built")
	assertNothingHalfMade(t, openStore(t, dir))
}
