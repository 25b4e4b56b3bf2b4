package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostile sets a terminal's title and clipboard if it is printed there.
const hostile = "\x1b]0;pwned\x07\x1b]52;c;cm0gLXJmIH4K\x07\u009b2J"

// TestEscapesOfARegistry verifies that control sequences in a registry's error do not reach the
// terminal.
func TestEscapesOfARegistry(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		w.WriteHeader(http.StatusNotFound)
		w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"gone \u001b]0;pwned\u0007\u009b2J"}]}`))
	}))
	defer server.Close()
	_, errOut, _ := cliWith("", "pull", strings.TrimPrefix(server.URL, "http://")+"/team/sql:1")
	if !strings.Contains(errOut, "gone") || strings.ContainsAny(errOut, "\x1b\x07\u009b") {
		t.Errorf("the user sees %q", errOut)
	}
}

// TestEscapesAtATerminal verifies that the bytes of a file are not changed for a program and are
// escaped for a terminal.
func TestEscapesAtATerminal(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	if out, errOut, status := cliWith("", "key", "new", key); status != exitDone {
		t.Fatal(out, errOut)
	}
	named := filepath.Join(t.TempDir(), "k"+strings.ReplaceAll(hostile, "/", ""))
	if err := os.Rename(key, named); err != nil {
		t.Fatal(err)
	}
	// The error contains the path of the existing key.
	s := atTerminal(t, "key", "new", named)
	s.expect("\n", "")
	s.wantStatus(exitFailed)
	if !strings.Contains(s.all, "pwned") || strings.ContainsAny(s.all, "\x1b\x07\u009b") {
		t.Errorf("the terminal gets %q", s.all)
	}
}
