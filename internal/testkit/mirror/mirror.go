package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/internal/arch"
)

// repositoryPath is the repository's path in URLs, as on Alpine's mirrors.
const repositoryPath = "/alpine/v3.22/main"

// Options configure a mirror.
type Options struct {
	// Dir is the cache folder; empty: sov/mirror in the user's cache folder.
	Dir string
	// Arches lists "arm64", "amd64" or both; empty: both.
	Arches []string
	// Fixtures is a folder with Alpine's release tarballs, "alpine-minirootfs-VERSION-ARCH.tar.gz".
	// If it is empty or lacks an architecture, the base is made from Debian's busybox.
	Fixtures string
	// Listen is the address to listen on; empty: a free port on 127.0.0.1. It must be a loopback
	// address, because a mirror answers every client.
	Listen string
	// Add lists additional Debian packages for the repository. They keep their names, except
	// extensions of PostgreSQL, which have Alpine's. The libraries that their programs link to are
	// added too.
	Add []string
	// Release is the release of Debian to take programs from, such as "trixie", which has
	// PostgreSQL 17; empty: the release in the host's sources.
	Release string
	// Beside lists other releases of Debian. The mirror also serves their PostgreSQL: its server
	// and its programs, with those libraries that Release lacks.
	Beside []string
	// Refresh fetches Debian's packages again even if they are cached.
	Refresh bool
	// Log receives a line about each long step; nil: none.
	Log io.Writer
}

// A Mirror is a running registry and package repository.
type Mirror struct {
	// KeyFiles are the public keys of the packages, with the same file names as in /etc/apk/keys.
	// The base image has them too.
	KeyFiles []string

	address  string
	contents []*content
	server   *http.Server
	done     chan struct{} // closed when the server has ended
	failure  error         // the server's error
}

// Start prepares the contents that the cache lacks, and serves until Close or until ctx ends. It
// returns when the mirror answers.
func Start(ctx context.Context, o Options) (*Mirror, error) {
	wanted, err := archesByName(o.Arches)
	if err != nil {
		return nil, fmt.Errorf("start the mirror: %w", err)
	}
	// Check that the address is free before fetching contents, but do not listen on it meanwhile.
	probe, err := listen(ctx, o.Listen)
	if err != nil {
		return nil, fmt.Errorf("start the mirror: %w", err)
	}
	probe.Close()
	m := &Mirror{done: make(chan struct{})}
	handler, err := m.prepare(ctx, o, wanted)
	var listener net.Listener
	if err == nil {
		listener, err = listen(ctx, o.Listen)
	}
	if err != nil {
		m.release()
		return nil, fmt.Errorf("start the mirror: %w", err)
	}
	m.address = listener.Addr().String()
	m.server = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(m.done)
		m.failure = m.server.Serve(listener)
	}()
	context.AfterFunc(ctx, func() { m.server.Close() })
	return m, nil
}

// listen listens on a loopback address, and rejects other addresses.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if addr, ok := listener.Addr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() {
		listener.Close()
		return nil, fmt.Errorf("%s is not a loopback address, and the mirror is for this computer only", address)
	}
	return listener, nil
}

// prepare prepares the contents of all architectures concurrently and returns their handler.
func (m *Mirror) prepare(ctx context.Context, o Options, wanted []arch.Arch) (http.Handler, error) {
	cache, err := openCache(o.Dir)
	if err != nil {
		return nil, err
	}
	log := logger(o.Log)
	unlock, err := cache.lock(ctx, log)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := cache.clean(); err != nil {
		return nil, err
	}
	key, publicFile, err := cache.key()
	if err != nil {
		return nil, err
	}
	m.KeyFiles = []string{publicFile}
	maker := &maker{cache: cache, key: key, fixtures: o.Fixtures, added: slices.Compact(slices.Sorted(slices.Values(o.Add))), release: o.Release, beside: o.Beside, log: log}
	m.contents = make([]*content, len(wanted))
	group, ctx := errgroup.WithContext(ctx)
	for i, a := range wanted {
		group.Go(func() (err error) {
			m.contents[i], err = maker.prepare(ctx, a, o.Refresh)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return m.handler()
}

// release releases the locks of the contents.
func (m *Mirror) release() {
	for _, c := range m.contents {
		if c != nil && c.inUse != nil {
			c.inUse.Release()
		}
	}
}

// logger returns a function that writes whole lines to w. Concurrent calls are safe.
func logger(w io.Writer) func(string, ...any) {
	if w == nil {
		return func(string, ...any) {}
	}
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, format+"\n", args...)
	}
}

// handler returns a handler of the registry below /v2 and of the repository below its path.
func (m *Mirror) handler() (http.Handler, error) {
	images, err := newRegistry(m.contents)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", images)
	for _, c := range m.contents {
		prefix := repositoryPath + "/" + c.arch.Alpine + "/"
		mux.Handle(prefix, http.StripPrefix(prefix, http.FileServerFS(os.DirFS(filepath.Join(c.dir, "repository")))))
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, m.Describe()) })
	return readOnly(mux), nil
}

// readOnly rejects all methods except GET and HEAD.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "this mirror is read-only", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Close stops the server. It may be called more than once.
func (m *Mirror) Close() error {
	err := m.server.Close()
	<-m.done
	m.release()
	if !errors.Is(m.failure, http.ErrServerClosed) {
		err = errors.Join(err, m.failure)
	}
	return err
}

// Image returns the reference of the base image, an index of the architectures.
func (m *Mirror) Image() string { return m.address + "/" + baseImage }

// PostgresImage returns the reference of an image of the base with PostgreSQL.
func (m *Mirror) PostgresImage() string {
	return m.address + "/" + postgresImageName(m.contents[0].PostgresMajor)
}

// Registry returns the host and port of the registry.
func (m *Mirror) Registry() string { return m.address }

// Repositories returns the URLs of the package repositories, as for /etc/apk/repositories.
func (m *Mirror) Repositories() []string { return []string{"http://" + m.address + repositoryPath} }

// Describe returns a text for people about what the mirror serves and omits.
func (m *Mirror) Describe() string {
	var text strings.Builder
	fmt.Fprintf(&text, "This is not Alpine: it is a mirror on this computer for places that cannot reach Docker Hub and Alpine's packages.\n")
	for _, c := range m.contents {
		fmt.Fprintf(&text, "%s: the base image is %s; the %d packages are Debian's programs (PostgreSQL %s among them) as signed apk files.\n",
			c.arch.Go, c.Base, len(c.Packages), c.PostgresMajor)
	}
	fmt.Fprintf(&text, "Just-in-time compilation (LLVM), documentation and translations are left out.\n\n")
	fmt.Fprintf(&text, "image       %s\n", m.Image())
	fmt.Fprintf(&text, "image       %s (PostgreSQL in it)\n", m.PostgresImage())
	for _, url := range m.Repositories() {
		fmt.Fprintf(&text, "repository  %s\n", url)
	}
	for _, file := range m.KeyFiles {
		fmt.Fprintf(&text, "key         %s\n", file)
	}
	return text.String()
}

// FindFixtures returns the folder with Alpine's release tarballs: $SOV_ALPINE_FIXTURES, or the
// first candidate with a tarball, or "".
func FindFixtures(getenv func(string) string, candidates ...string) string {
	if dir := getenv("SOV_ALPINE_FIXTURES"); dir != "" {
		return dir
	}
	for _, dir := range candidates {
		for _, a := range arch.All() {
			if minirootfs(dir, a) != "" {
				return dir
			}
		}
	}
	return ""
}

// Folder returns the folder of the apk files of the first architecture.
func (m *Mirror) Folder() string { return filepath.Join(m.contents[0].dir, "repository") }
