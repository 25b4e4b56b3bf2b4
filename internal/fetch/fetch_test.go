package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// quick returns a client that retries at once. Its timeouts are long enough for a busy computer.
func quick() *Client { return patient(time.Minute) }

// patient returns a client with this timeout for a response and for each part of its body.
func patient(patience time.Duration) *Client {
	return &Client{Transport: NewTransport(Timeouts{Connect: time.Minute, Header: patience, Idle: patience}), Attempts: 3, Pause: time.Millisecond}
}

// serve starts a server that answers each request with the next handler, then always with the last
// one. It returns the server's URL and the number of requests.
func serve(t *testing.T, handlers ...http.HandlerFunc) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(requests.Add(1))
		handlers[min(n, len(handlers))-1](w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/file", requests
}

func good(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "content") }

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// broken announces more bytes than it sends.
func broken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	io.WriteString(w, "cont")
}

// stalled sends a part and then nothing, until the client disconnects.
func stalled(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, "cont")
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// silent does not answer.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestBytes(t *testing.T) {
	const silence = 2 * time.Second // timeout that only silent servers exceed, busy ones do not
	tests := []struct {
		name     string
		handlers []http.HandlerFunc
		requests int64
		want     string // of the error; "" for success
	}{
		{"at once", []http.HandlerFunc{good}, 1, ""},
		{"after a 503", []http.HandlerFunc{status(503), good}, 2, ""},
		{"after a 429", []http.HandlerFunc{status(429), good}, 2, ""},
		{"after a broken transfer", []http.HandlerFunc{broken, good}, 2, ""},
		{"after a stall", []http.HandlerFunc{stalled, good}, 2, ""},
		{"after a silence", []http.HandlerFunc{silent, good}, 2, ""},
		{"not there", []http.HandlerFunc{status(404)}, 1, "404 Not Found"},
		{"out for good", []http.HandlerFunc{status(500)}, 3, "500 Internal Server Error"},
		{"stalls for good", []http.HandlerFunc{stalled}, 3, "nothing has arrived for 2s"},
		{"too large", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2000)) }}, 1, "larger than the 1000 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := quick()
			if strings.Contains(tt.name, "stall") || strings.Contains(tt.name, "silence") {
				client = patient(silence)
			}
			url, requests := serve(t, tt.handlers...)
			got, err := client.Bytes(context.Background(), url, 1000)
			if tt.want == "" && (err != nil || string(got) != "content") {
				t.Errorf("got %q, %v", got, err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if requests.Load() != tt.requests {
				t.Errorf("%d requests, want %d", requests.Load(), tt.requests)
			}
		})
	}
}

func TestFileStartsOver(t *testing.T) {
	url, _ := serve(t, broken, good)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := quick().File(context.Background(), f, url, 1000); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPaths(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	offline := &Client{Transport: Offline}
	if got, err := offline.Bytes(context.Background(), path, 1000); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := offline.Bytes(context.Background(), path+"x", 1000); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestOffline(t *testing.T) {
	url, requests := serve(t, good)
	_, err := (&Client{Transport: Offline}).Bytes(context.Background(), url, 1000)
	if !errors.Is(err, ErrOffline) || requests.Load() != 0 {
		t.Errorf("got %v after %d requests", err, requests.Load())
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = quick().Bytes(context.Background(), fmt.Sprintf("http://%s/x", l.Addr()), 1000)
	if err == nil || !strings.Contains(err.Error(), "connection refused (no connection?") {
		t.Errorf("got %v", err)
	}
}

func TestCancellation(t *testing.T) {
	url, _ := serve(t, stalled)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	c := quick()
	c.Pause = time.Hour
	if _, err := c.Bytes(ctx, url, 1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestLoopbackHTTP(t *testing.T) {
	url, _ := serve(t, good)
	if _, err := (&Client{Transport: LoopbackHTTP(http.DefaultTransport)}).Bytes(context.Background(), url, 1000); err != nil {
		t.Error(err)
	}
	_, err := (&Client{Transport: LoopbackHTTP(http.DefaultTransport)}).Bytes(context.Background(), "http://192.0.2.1/x", 1000)
	if !errors.Is(err, ErrInsecure) {
		t.Errorf("got %v", err)
	}
	for host, want := range map[string]bool{"localhost:80": true, "127.8.9.1": true, "[::1]:5000": true, "::1": true,
		"localhost.example.org": false, "127.0.0.1.example.org": false, "192.168.0.1:80": false, "": false} {
		if IsLoopback(host) != want {
			t.Errorf("IsLoopback(%q) is %v", host, !want)
		}
	}
}
