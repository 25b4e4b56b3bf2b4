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
	if os.Getenv(parentVariable) != "" {
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
	// The child of a parent that ends goes to this process, which sees its end.
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

// TestStaysWithTheTest ends the goroutine that has started a process: the process goes on.
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
