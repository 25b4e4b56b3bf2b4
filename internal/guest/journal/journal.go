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
	// defaultSize is the size of both files of a service together, in bytes: about twenty thousand
	// lines.
	defaultSize = 2 << 20
	// memoryLines is the number of lines kept in memory before Attach.
	memoryLines = 2000
	// followerLines is how many lines a slow follower may be behind.
	followerLines = 512
	maxFollowers  = 8
)

// A Journal stores each service's log lines in a ring on the data disk, which persists across
// restarts of the machine, and passes them to followers. Like the console it never blocks a caller:
// lines pass through a bounded queue, and lines that do not fit into the queue or on the disk are
// counted and dropped.
type Journal struct {
	queue chan record
	lost  atomic.Int64

	mu        sync.Mutex
	dir       string // empty before Attach
	sizes     map[string]int64
	rings     map[string]*logring.Ring
	memory    []record // lines that are not in a ring
	followers map[*Follower]bool
}

// A record of the queue is a line, or a flush request.
type record struct {
	service, line string
	written       chan<- struct{} // closed when it is reached; nil for a line
}

// A Follower receives new lines of a service, or of all services.
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

// Keep adds a log line about a service.
func (j *Journal) Keep(service, line string) {
	select {
	case j.queue <- record{service: service, line: line}:
	default:
		j.lost.Add(1)
	}
}

// Lost returns the number of dropped lines.
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

// store writes a line to its ring, or to memory. The caller holds mu.
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

// limit returns the size limit of each of the two files of a service, in bytes.
func (j *Journal) limit(service string) int64 {
	return cmp.Or(j.sizes[service], defaultSize) / 2
}

// Attach makes the journal store its lines in dir, on the data disk, and moves the lines in memory
// there. sizes are the sizes of services' logs in bytes; the default is 2 MiB.
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

// ErrTooManyFollowers is the error of Follow while the maximum number of followers is reached.
var ErrTooManyFollowers = fmt.Errorf("%d readers follow the log already", maxFollowers)

// Tail returns the last n lines of a service, or of all if service is empty, in the order of their
// time. The result may be empty.
func (j *Journal) Tail(service string, n int) ([]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.read(service, n)
}

// Follow is Tail with a follower of the lines after it; Leave ends it.
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

// ringsIn lists the services that have a ring in dir.
func ringsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !strings.Contains(e.Name(), ".") { // the previous file is NAME.1
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// merge merges several logs by the time at the start of each line: RFC 3339 with a fixed length,
// which compares as text. Lines of one log keep their order, even if the clock was set.
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
