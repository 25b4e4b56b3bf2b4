package progress

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestNilTask(t *testing.T) {
	var task *Task
	task.Total(1)
	task.Grow(1)
	task.Add(1)
	task.Step("x")
	task.Logf("x")
	if b, err := io.ReadAll(task.Reader(strings.NewReader("abc"))); err != nil || string(b) != "abc" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestRate(t *testing.T) {
	at := time.Unix(1000, 0)
	task := &Task{name: "a", started: at, seenAt: at}
	task.Total(1000)
	for range 50 { // 10 s of 100 bytes/s, then a new count
		at = at.Add(200 * time.Millisecond)
		task.Add(20)
		task.progress(at)
	}
	if p := task.progress(at); p.Done != 1000 || p.Rate < 99 || p.Rate > 101 || p.Elapsed != 10*time.Second {
		t.Errorf("steady: %+v", p)
	}
	task.Total(500)
	if p := task.progress(at.Add(time.Second)); p.Rate != 0 || p.Done != 0 || p.Total != 500 {
		t.Errorf("new count: %+v", p)
	}
}
