// Package registrytest runs an OCI registry on a loopback address for tests. It keeps blobs on a
// disk without verifying them again, as registries do, can be killed and restarted, and can
// simulate failures of networks and disks.
package registrytest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Registry is an OCI registry that runs or that Stop has ended.
type Registry struct {
	Dir string // folder of the blobs

	t       testing.TB
	handler http.Handler
	address string

	mu     sync.Mutex
	server *http.Server // nil: stopped
	fault  Fault

	requests, in, out atomic.Int64
}

// A Fault may answer a request instead of the registry and return true, or cause another failure.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Start starts an empty registry, which ends with the test.
func Start(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{Dir: t.TempDir(), t: t}
	blobs := diskBlobs{registry.NewDiskBlobHandler(r.Dir).(handler), r.Dir}
	r.handler = registry.New(registry.WithBlobHandler(blobs), registry.Logger(log.New(io.Discard, "", 0)))
	r.listen("127.0.0.1:0")
	t.Cleanup(r.Stop)
	return r
}

func (r *Registry) listen(address string) {
	r.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.address = listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(r.serve), ErrorLog: log.New(io.Discard, "", 0)}
	r.mu.Lock()
	r.server = server
	r.mu.Unlock()
	go server.Serve(listener)
}

// Repository returns the reference of a repository.
func (r *Registry) Repository(name string) string { return r.address + "/" + name }

// Stop closes the registry and all its connections, as a kill does. It does nothing if the registry
// does not run.
func (r *Registry) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		r.server.Close()
		r.server = nil
	}
}

// Restart starts a stopped registry with its previous address and contents.
func (r *Registry) Restart() {
	r.t.Helper()
	r.listen(r.address)
}

// SetFault applies a fault to all following requests; nil removes the fault.
func (r *Registry) SetFault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Traffic counts the requests to a registry, and the bytes of bodies that it received and sent.
type Traffic struct{ Requests, In, Out int64 }

// Traffic returns the traffic since the last call.
func (r *Registry) Traffic() Traffic {
	return Traffic{r.requests.Swap(0), r.in.Swap(0), r.out.Swap(0)}
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.requests.Add(1)
	req.Body = &countedBody{req.Body, &r.in}
	w = &countedWriter{w, &r.out}
	r.mu.Lock()
	fault := r.fault
	r.mu.Unlock()
	if fault != nil && fault(w, req) {
		return
	}
	r.handler.ServeHTTP(w, req)
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

type countedWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Unwrap supports http.ResponseController.
func (c *countedWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Blobs returns the paths of all blobs on the disk.
func (r *Registry) Blobs() []string {
	r.t.Helper()
	var paths []string
	err := filepath.WalkDir(r.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return paths
}

// Size returns the total size of the blobs, in bytes.
func (r *Registry) Size() (n int64) {
	for _, path := range r.Blobs() {
		if info, err := os.Stat(path); err == nil {
			n += info.Size()
		}
	}
	return n
}

// Spoil changes a byte in the middle of every blob of at least size bytes, and returns the number
// of these blobs.
func (r *Registry) Spoil(size int64) (n int) {
	r.t.Helper()
	for _, path := range r.Blobs() {
		content, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		if int64(len(content)) < size {
			continue
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(path, content, 0o644); err != nil {
			r.t.Fatal(err)
		}
		n++
	}
	return n
}

// handler is the interface of the library's handler for blobs on a disk.
type handler interface {
	registry.BlobHandler
	registry.BlobPutHandler
}

// diskBlobs does not hash a blob before it reports that the blob exists.
type diskBlobs struct {
	handler
	dir string
}

func (d diskBlobs) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	info, err := os.Stat(filepath.Join(d.dir, h.Algorithm, h.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, registry.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Truncate is a Fault that ends the body of a response after 1000 bytes.
func (r *Registry) Truncate(w http.ResponseWriter, req *http.Request) bool {
	if req.Method != http.MethodGet {
		return false
	}
	r.handler.ServeHTTP(&cutWriter{ResponseWriter: w, rest: 1000}, req)
	return true
}

// A cutWriter breaks the connection after rest bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	rest int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.rest {
		c.ResponseWriter.Write(p[:c.rest])
		if flusher, ok := c.ResponseWriter.(interface{ Unwrap() http.ResponseWriter }); ok {
			http.NewResponseController(flusher.Unwrap()).Flush()
		}
		panic(http.ErrAbortHandler)
	}
	c.rest -= len(p)
	return c.ResponseWriter.Write(p)
}

// Stall is a Fault that never answers.
func Stall(w http.ResponseWriter, req *http.Request) bool {
	<-req.Context().Done()
	return true
}

// Answer returns a Fault that answers requests of the given methods with a status.
func Answer(status int, methods ...string) Fault {
	return func(w http.ResponseWriter, req *http.Request) bool {
		for _, m := range methods {
			if req.Method == m {
				http.Error(w, http.StatusText(status), status)
				return true
			}
		}
		return false
	}
}
