package fetch

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// network answers as servers on the network, and records the requested hosts.
type network struct{ asked []string }

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	n.asked = append(n.asked, req.URL.Host)
	answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("content")), Request: req}
	if to := req.URL.Query().Get("to"); to != "" {
		answer.StatusCode = http.StatusTemporaryRedirect
		answer.Header.Set("Location", to)
	}
	return answer, nil
}

func TestRedirectsToLocalAddresses(t *testing.T) {
	for to, refused := range map[string]bool{
		"http://127.0.0.1:5432/":                   true,
		"http://169.254.169.254/latest/meta-data/": true,
		"http://[::1]/":                            true,
		"http://[::ffff:127.0.0.1]/":               true,
		"http://[fe80::1]/":                        true,
		"http://0.0.0.0/":                          true,
		"https://localhost/":                       true,
		"https://db.localhost./":                   true,
		"https://elsewhere.example/?to=http%3A%2F%2F127.0.0.1%2F": true, // in two steps
		"https://storage.example/":                                false,
		"https://192.168.1.1/":                                    false,
	} {
		for _, origin := range []string{"https://registry.example/?to=", "http://127.0.0.1:5000/?to="} {
			n := &network{}
			client := &Client{Transport: confined{n}, Attempts: 1}
			_, err := client.Bytes(context.Background(), origin+strings.NewReplacer("?", "%3F", "&", "%26", "%", "%25").Replace(to), 1000)
			if want := refused && strings.HasPrefix(origin, "https"); errors.Is(err, ErrLocal) != want || !want && err != nil {
				t.Errorf("%s to %s: %v (asked %v)", origin, to, err, n.asked)
			}
		}
	}
}

// TestOrigin sends requests that a remote server has caused, as a registry does with the realm of
// its tokens and the location of an upload.
func TestOrigin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "content") }))
	defer server.Close()
	client := &Client{Transport: NewTransport(DefaultTimeouts), Attempts: 1}
	if _, err := client.Bytes(WithOrigin(context.Background(), "registry.example"), server.URL, 1000); !errors.Is(err, ErrLocal) {
		t.Errorf("got %v", err)
	}
	for _, origin := range []string{"127.0.0.1:5000", "localhost", "[::1]:5000"} {
		if _, err := client.Bytes(WithOrigin(context.Background(), origin), server.URL, 1000); err != nil {
			t.Errorf("from %s: %v", origin, err)
		}
	}
	marked := context.WithValue(context.Background(), refuseLocalKey{}, "registry.example")
	for address, refused := range map[string]bool{"127.0.0.1:80": true, "[fe80::1%eth0]:80": true, "[::1]:443": true, "10.0.0.1:80": false} {
		if err := refuseLocal(marked, "tcp", address, nil); errors.Is(err, ErrLocal) != refused {
			t.Errorf("a name that is %s: %v", address, err)
		}
		if err := refuseLocal(context.Background(), "tcp", address, nil); err != nil {
			t.Errorf("%s, named by the user: %v", address, err)
		}
	}
}

// TestDrip verifies that a body is rejected if the server sends only a byte now and then, which the
// idle timeout does not detect.
func TestDrip(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			select {
			case <-time.After(5 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := &Client{Transport: NewTransport(Timeouts{Connect: time.Minute, Header: time.Minute, Idle: time.Minute, Window: 200 * time.Millisecond}), Attempts: 1}
	begin := time.Now()
	_, err := client.Bytes(ctx, server.URL, 1<<30)
	t.Logf("after %s: %v", time.Since(begin).Round(time.Millisecond), err)
	if err == nil || !strings.Contains(err.Error(), "too slow") || !Passing(err) {
		t.Errorf("got %v", err)
	}
}
