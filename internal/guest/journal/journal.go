//go:build linux

package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sovereign-sql/sov/internal/guest/journal/logring"
)

const (
	// defaultSize bounds the two files of a service together, in bytes: some twenty thousand lines.
	defaultSize = 2 << 20
	// memoryLines are kept while there is no data disk.
	memoryLines = 2000
	// A follower that is slow may be this many lines behind.
	followerLines = 512
	maxFollowers  = 8
)

// A Journal keeps each service's lines of the log in a ring on the data disk, over restarts of the
// machine, and hands them to followers. Like the console it never blocks a caller: lines wait in a
// bounded queue, and those that do not fit, or that a full disk does not take, are counted and
// lost.
type Journal struct {
	queue chan record
	lost  atomic.Int64

	mu        sync.Mutex
	dir       string // empty while there is no data disk
	sizes     map[string]int64
	rings     map[string]*logring.Ring
	memory    []record // what no ring has
	followers map[*Follower]bool
}

// A record of the queue is a line, or the question whether all before it are written.
type record struct {
	service, line string
	written       chan<- struct{} // closed when it is reached; nil for a line
}

// A Follower gets the lines of a service, or of all, as they come.
type Follower struct {
	Lines <-chan string

	service string      // empty: all
	lines   chan string // Lines, for the journal to send on
	missed  atomic.Int64
}

// Missed returns how many lines did not fit into Lines since the last call.
func (f *Follower) Missed() int64 { return f.missed.Swap(0) }

// New starts a journal that keeps its lines in memory until Attach. spawn runs its second argument
// in a goroutine; the first is the goroutine's name.
func New(spawn func(name string, fn func())) *Journal {
	j := &Journal{queue: make(chan record, queueLength), followers: make(map[*Follower]bool)}
	spawn("journal", func() {
		for r := range j.queue {
			if r.written != nil {
				close(r.written)
				continue
			}
			j.write(r)
		}
	})
	return j
}

// Keep takes a line of the log about a service.
func (j *Journal) Keep(service, line string) {
	select {
	case j.queue <- record{service: service, line: line}:
	default:
		j.lost.Add(1)
	}
}

// Lost is how many lines were kept nowhere: too many at once, or no room.
func (j *Journal) Lost() int64 { return j.lost.Load() }

// Flush waits until the lines kept so far are written, but no longer than limit.
func (j *Journal) Flush(limit time.Duration) {
	written := make(chan struct{})
	select {
	case j.queue <- record{written: written}:
	case <-time.After(limit):
		return
	}
	select {
	case <-written:
	case <-time.After(limit):
	}
}

func (j *Journal) write(r record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.store(r)
	for f := range j.followers {
		if f.service != "" && f.service != r.service {
			continue
		}
		select {
		case f.lines <- r.line:
		default:
			f.missed.Add(1)
		}
	}
}

// store puts a line where it stays. The caller holds mu.
func (j *Journal) store(r record) {
	if j.dir == "" {
		if len(j.memory) == memoryLines {
			j.memory = append(j.memory[:0], j.memory[1:]...)
			j.lost.Add(1)
		}
		j.memory = append(j.memory, r)
		return
	}
	ring, ok := j.rings[r.service]
	if !ok {
		ring = logring.New(filepath.Join(j.dir, r.service), j.limit(r.service))
		j.rings[r.service] = ring
	}
	if ring.Append(r.line) != nil {
		j.lost.Add(1)
	}
}

// limit bounds each of the two files of a service, in bytes.
func (j *Journal) limit(service string) int64 {
	return cmp.Or(j.sizes[service], defaultSize) / 2
}

// Attach makes the journal keep its lines in dir, which is on the data disk, and moves the lines in
// memory there. sizes are the bytes that the logs of services may take; those without one take 2
// MiB.
func (j *Journal) Attach(dir string, sizes map[string]int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dir, j.sizes, j.rings = dir, sizes, make(map[string]*logring.Ring)
	for _, r := range j.memory {
		j.store(r)
	}
	j.memory = nil
}

// Detach closes all files of the data disk, so that it can be unmounted.
func (j *Journal) Detach() {
	j.Flush(time.Second)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, ring := range j.rings {
		ring.Close() // what was written stays
	}
	j.dir, j.rings = "", nil
}

// ErrTooManyFollowers says that a follower has to wait until another one leaves.
var ErrTooManyFollowers = fmt.Errorf("%d readers follow the log already", maxFollowers)

// Tail returns the last n lines of a service, or of all if it is empty, in the order of their time.
// A service of which there is no line has none.
func (j *Journal) Tail(service string, n int) ([]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.read(service, n)
}

// Follow is Tail, and a follower of the lines that come after; Leave ends it.
func (j *Journal) Follow(service string, n int) ([]string, *Follower, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.followers) == maxFollowers {
		return nil, nil, ErrTooManyFollowers
	}
	last, err := j.read(service, n)
	if err != nil {
		return nil, nil, err
	}
	lines := make(chan string, followerLines)
	f := &Follower{Lines: lines, service: service, lines: lines}
	j.followers[f] = true
	return last, f, nil
}

// Leave ends a follower that Follow returned.
func (j *Journal) Leave(f *Follower) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.followers, f)
}

// read implements Tail. The caller holds mu.
func (j *Journal) read(service string, n int) ([]string, error) {
	if j.dir == "" {
		var lines []string
		for _, r := range j.memory {
			if service == "" || service == r.service {
				lines = append(lines, r.line)
			}
		}
		return lines[max(0, len(lines)-n):], nil
	}
	services := []string{service}
	if service == "" {
		var err error
		if services, err = ringsIn(j.dir); err != nil {
			return nil, err
		}
	}
	logs := make([][]string, 0, len(services))
	for _, name := range services {
		lines, err := logring.Tail(filepath.Join(j.dir, name), j.limit(name), n)
		if err != nil {
			return nil, err
		}
		logs = append(logs, lines)
	}
	lines := merge(logs)
	return lines[max(0, len(lines)-n):], nil
}

// ringsIn lists the services of which there are lines.
func ringsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !strings.Contains(e.Name(), ".") { // the file before is NAME.1
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// merge makes one log of several, by the time at which their lines begin: RFC 3339 of one length,
// which compares as text. Lines of one log stay in its order, whatever the clock did.
func merge(logs [][]string) []string {
	var all []string
	for {
		logs = slices.DeleteFunc(logs, func(l []string) bool { return len(l) == 0 })
		if len(logs) == 0 {
			return all
		}
		first := 0
		for i, l := range logs {
			if stamp(l[0]) < stamp(logs[first][0]) {
				first = i
			}
		}
		all = append(all, logs[first][0])
		logs[first] = logs[first][1:]
	}
}

func stamp(line string) string {
	s, _, _ := strings.Cut(line, " ")
	return s
}
