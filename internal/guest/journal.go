//go:build linux

package guest

import (
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

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/guest/logring"
)

const (
	// journalDir is below the data disk.
	journalDir = "log"
	// ringLimit bounds each of the two files of a service, in bytes: some ten thousand lines.
	ringLimit = 1 << 20
	// memoryLines are kept while there is no data disk.
	memoryLines = 2000
	// A follower that is slow may be this many lines behind.
	followerLines = 512
	maxFollowers  = 8
)

// A journal keeps each service's lines of the log in a ring on the data disk, over restarts of the machine, and hands them
// to followers. Like the console it holds nobody up: lines wait in a bounded queue, and those that do not fit, or that a
// full disk does not take, are counted and lost.
type journal struct {
	queue chan record
	lost  atomic.Int64

	mu        sync.Mutex
	dir       string // empty while there is no data disk
	rings     map[string]*logring.Ring
	memory    []record // what no ring has
	followers map[*follower]bool
}

// A record of the queue is a line, or the question whether all before it are written.
type record struct {
	service, line string
	written       chan<- struct{} // closed when it is reached; nil for a line
}

// A follower gets the lines of a service, or of all, as they come.
type follower struct {
	service string // empty: all
	lines   chan string
	missed  atomic.Int64
}

func newJournal(spawn spawn) *journal {
	j := &journal{queue: make(chan record, queueLength), followers: make(map[*follower]bool)}
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

// keep takes a line of the log about a service.
func (j *journal) keep(service, line string) {
	select {
	case j.queue <- record{service: service, line: line}:
	default:
		j.lost.Add(1)
	}
}

// flush waits until the lines kept so far are written, but no longer than limit.
func (j *journal) flush(limit time.Duration) {
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

func (j *journal) write(r record) {
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
func (j *journal) store(r record) {
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
		ring = logring.New(filepath.Join(j.dir, r.service), ringLimit)
		j.rings[r.service] = ring
	}
	if ring.Append(r.line) != nil {
		j.lost.Add(1)
	}
}

// attach moves to the data disk that is mounted at data.
func (j *journal) attach(data string) error {
	dir := filepath.Join(data, journalDir)
	if err := filesystem.MakeDirectory(guestspec.Directory{Path: dir, Mode: "0700", User: "root"}); err != nil {
		return err
	}
	j.use(dir)
	return nil
}

// use moves to a folder, with what there was none for.
func (j *journal) use(dir string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dir, j.rings = dir, make(map[string]*logring.Ring)
	for _, r := range j.memory {
		j.store(r)
	}
	j.memory = nil
}

// detach lets go of the data disk, so that it can be unmounted.
func (j *journal) detach() {
	j.flush(time.Second)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, ring := range j.rings {
		ring.Close() // what was written stays
	}
	j.dir, j.rings = "", nil
}

// errTooMany says that a follower has to wait until another one leaves.
var errTooMany = fmt.Errorf("%d readers follow the log already", maxFollowers)

// tail returns the last n lines of a service, or of all if it is empty, in the order of their time. A service of which
// there is no line has none.
func (j *journal) tail(service string, n int) ([]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.read(service, n)
}

// follow is tail, and a follower of what comes after; leave ends it.
func (j *journal) follow(service string, n int) ([]string, *follower, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.followers) == maxFollowers {
		return nil, nil, errTooMany
	}
	lines, err := j.read(service, n)
	if err != nil {
		return nil, nil, err
	}
	f := &follower{service: service, lines: make(chan string, followerLines)}
	j.followers[f] = true
	return lines, f, nil
}

func (j *journal) leave(f *follower) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.followers, f)
}

// read implements tail. The caller holds mu.
func (j *journal) read(service string, n int) ([]string, error) {
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
		lines, err := logring.Tail(filepath.Join(j.dir, name), ringLimit, n)
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

// merge makes one log of several, by the time at which their lines begin: RFC 3339 of one length, which compares as text.
// Lines of one log stay in its order, whatever the clock did.
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
