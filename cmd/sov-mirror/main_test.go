package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/mirror"
)

// TestReadyAndStop starts the command, sends a request once it is ready, and stops it as Ctrl-C
// does.
func TestReadyAndStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, write := io.Pipe()
	cmd := newCommand(os.Getenv)
	cmd.SetArgs([]string{"--arch", "amd64", "--json", "--dir", os.Getenv("SOV_MIRROR_DIR"), "--fixtures", ""})
	cmd.SetOut(write)
	cmd.SetErr(io.Discard)
	done := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		write.Close()
		done <- err
	}()
	line, err := bufio.NewReader(read).ReadBytes('\n')
	if err != nil {
		if err := <-done; errors.Is(err, mirror.ErrUnavailable) {
			t.Skipf("needs Debian's packages, by apt or in the mirror's cache: %v", err)
		} else {
			t.Fatalf("no ready line: %v", err)
		}
	}
	var r ready
	if err := json.Unmarshal(line, &r); err != nil || r.Event != "ready" {
		t.Fatalf("ready line %q: %v", line, err)
	}
	resp, err := http.Get(r.Repositories[0] + "/x86_64/APKINDEX.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the index: %s", resp.Status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v, want no error", err)
	}
}

func TestHelpDescription(t *testing.T) {
	cmd := newCommand(os.Getenv)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"It is not Alpine", "--refresh", "--listen"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q", want)
		}
	}
}
