//go:build linux

package childtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const parentVariable = "SOV_TEST_PARENT"

func TestMain(m *testing.M) {
	switch os.Getenv(parentVariable) {
	case "hangup":
		child := exec.Command("grep", "SigIgn", "/proc/self/status")
		child.Stdout = os.Stdout
		if err := child.Run(); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	case "yes":
		child := exec.Command("sleep", "1000")
		if err := Start(child, nil); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(child.Process.Pid)
		select {}
	}
	os.Exit(m.Run())
}

// TestEndsWithTheParent kills a process that has started another.
func TestEndsWithTheParent(t *testing.T) {
	// This process becomes the parent of the orphaned child and can wait for it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	parent := exec.Command("/proc/self/exe")
	parent.Env = append(os.Environ(), parentVariable+"=yes")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := Start(parent, nil); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	ended := make(chan unix.WaitStatus, 1)
	go func() {
		var status unix.WaitStatus
		unix.Wait4(pid, &status, 0, nil)
		ended <- status
	}()
	select {
	case status := <-ended:
		if status.Signal() != unix.SIGKILL {
			t.Errorf("the child ended with %v", status)
		}
	case <-time.After(time.Minute):
		unix.Kill(pid, unix.SIGKILL)
		t.Error("the child outlives its parent")
	}
}

// TestStaysWithTheTest ends the goroutine that started a process. The process must continue.
func TestStaysWithTheTest(t *testing.T) {
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() { failed <- Start(child, nil) }()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

// TestTakesHangup runs a process that ignores SIGHUP, as under nohup. Its child must not ignore
// SIGHUP.
func TestTakesHangup(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command("sh", "-c", `trap "" HUP; exec "$0"`, program)
	parent.Env = append(os.Environ(), parentVariable+"=hangup")
	out, err := parent.Output()
	if err != nil {
		t.Fatal(err)
	}
	var ignored uint64 // a bit for each signal, see proc(5)
	if _, err := fmt.Sscanf(string(out), "SigIgn: %x", &ignored); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if ignored>>(unix.SIGHUP-1)&1 != 0 {
		t.Errorf("the child ignores SIGHUP: %s", out)
	}
}
