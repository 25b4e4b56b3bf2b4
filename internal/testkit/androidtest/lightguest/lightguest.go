// Package lightguest is a guest without a kernel, for tests of what looks after a machine: to its host it is one that
// boots within milliseconds. It answers ARP, holds the endpoint of package guestapi with the token from its config disk,
// listens at PostgreSQL's port, reaches out by the host, and ends as its script says. Its place is a network namespace of
// its own, joined to the host's TAP interface frame by frame.
package lightguest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// A Script says how a guest lives. As JSON, it stands in the place of a kernel.
type Script struct {
	Ready   time.Duration     `json:"ready"`             // from the start until its service is ready; negative: never
	Tailnet *guestapi.Tailnet `json:"tailnet,omitempty"` // what it tells of its tailnet
	Deaf    []string          `json:"deaf,omitempty"`    // requests to end that it ignores: "guest", "powerbtn", "stop"; "endpoint": it never answers there
	Panics  bool              `json:"panics,omitempty"`  // it ends at once with Status
	Status  int               `json:"status,omitempty"`  // crosvm's, where it panics
}

// maxScript bounds a script, in bytes.
const maxScript = 64 << 10

// Load reads the script from a kernel's file. It returns nil when that holds a real kernel.
func Load(path string) (*Script, error) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxScript {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(text, []byte("{")) {
		return nil, err
	}
	s := new(Script)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// A Guest is one that runs. Its methods are those of a virtual machine for whoever holds its control socket.
type Guest struct {
	script  Script
	config  configdisk.Config
	started time.Time
	space   *os.File // the guest's network namespace
	once    sync.Once
	done    chan struct{}
	status  int
}

// Start starts a guest on a TAP interface, with the first of its disks that is a config disk.
func Start(s Script, tap, mac string, disks []string) (*Guest, error) {
	g := &Guest{script: s, started: time.Now(), done: make(chan struct{})}
	if s.Panics {
		g.end(s.Status)
		return g, nil
	}
	if !slices.ContainsFunc(disks, g.readConfig) {
		return nil, errors.New("no disk is a config disk")
	}
	return g, g.join(tap, mac)
}

func (g *Guest) readConfig(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	g.config, err = configdisk.Decode(f, info.Size())
	return err == nil
}

// end ends the guest with one of crosvm's statuses. The first end counts.
func (g *Guest) end(status int) {
	g.once.Do(func() {
		g.status = status
		close(g.done)
	})
}

// Wait waits for the guest's end and returns crosvm's status for it.
func (g *Guest) Wait() int {
	<-g.done
	return g.status
}

// asked ends the guest in order, unless it is deaf to this request.
func (g *Guest) asked(request string) {
	if !slices.Contains(g.script.Deaf, request) {
		g.end(0)
	}
}

// Quit ends the guest at once.
func (g *Guest) Quit(context.Context) error {
	g.asked("stop")
	return nil
}

// PowerButton asks the guest to end.
func (g *Guest) PowerButton(context.Context) error {
	g.asked("powerbtn")
	return nil
}

// Pause is refused: this guest has no processors that could stand still.
func (g *Guest) Pause(context.Context) error { return errors.ErrUnsupported }

// Resume is refused, too.
func (g *Guest) Resume(context.Context) error { return errors.ErrUnsupported }
