package serials

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const writerEnv = "SERIALS_TEST_WRITER"

// TestMain makes this program the writer that TestKilledWriter kills.
func TestMain(m *testing.M) {
	path := os.Getenv(writerEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	memory := At(path)
	next, err := memory.Highest(Line{"sql", "k"})
	for err == nil {
		next++
		if err = memory.Note(next, Line{"sql", "k"}); err == nil {
			_, err = fmt.Println(next)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestNoteAndCheck(t *testing.T) {
	m := At(filepath.Join(t.TempDir(), "state", "serials.json"))
	sql, repository := Line{"sql", "one"}, Line{"host/team/sql", "one"}
	if err := m.Check(sql, 1); err != nil {
		t.Errorf("an empty memory: %v", err)
	}
	for _, serial := range []int64{3, 9, 4} {
		if err := m.Note(serial, sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Note(2, repository, Line{"sql", "two"}); err != nil {
		t.Fatal(err)
	}
	m = At(m.path)
	for _, c := range []struct {
		line   Line
		serial int64
		ok     bool
	}{{sql, 8, false}, {sql, 0, false}, {sql, 9, true}, {sql, 10, true}, {repository, 1, false}, {repository, 2, true}, {Line{"sql", "two"}, 2, true}, {Line{"forge", "one"}, 1, true}} {
		err := m.Check(c.line, c.serial)
		if lower := new(LowerError); (err == nil) != c.ok || err != nil && !errors.As(err, &lower) {
			t.Errorf("%v, serial %d: %v", c.line, c.serial, err)
		}
	}
	if highest, err := m.Highest(sql, repository); highest != 9 || err != nil {
		t.Errorf("%d, %v", highest, err)
	}
	if err := (Memory{}).Note(1, sql); err != nil {
		t.Errorf("the zero memory: %v", err)
	}
}

// TestSeveralWriters: concurrent writers do not lose each other's serials.
func TestSeveralWriters(t *testing.T) {
	m := At(filepath.Join(t.TempDir(), "serials.json"))
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if err := m.Note(int64(i+1), Line{fmt.Sprint("m", i), "k"}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for i := range 8 {
		if got, err := m.Highest(Line{fmt.Sprint("m", i), "k"}); got != int64(i+1) || err != nil {
			t.Errorf("m%d: %d, %v", i, got, err)
		}
	}
}

// TestKilledWriter: a writer may be killed at any time. The file stays valid and has every serial
// that the writer reported.
func TestKilledWriter(t *testing.T) {
	m := At(filepath.Join(t.TempDir(), "serials.json"))
	last := int64(0)
	for range 12 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), writerEnv+"="+m.path)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 3 {
			if !lines.Scan() {
				t.Fatal("the writer ended")
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for ok := true; ok; ok = lines.Scan() { // the lines that it wrote before the kill
			fmt.Sscan(lines.Text(), &last)
		}
		_ = c.Wait() // killed
		got, err := m.Highest(Line{"sql", "k"})
		if err != nil || got < last {
			t.Fatalf("%d is remembered, %d was noted: %v", got, last, err)
		}
	}
}

// FuzzRead: read returns valid serials, or an error that names the file.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"format": 1, "highest": {"sql": {"k": 9}}}`))
	f.Add([]byte(`null`))
	path := filepath.Join(f.TempDir(), "serials.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := At(path).read()
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
		if err == nil && c.Highest == nil {
			t.Errorf("%q is no memory", text)
		}
	})
}
