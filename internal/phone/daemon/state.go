package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// A stateFile is state.json with the current state.
type stateFile struct {
	path string
	now  func() time.Time
	log  func(string)

	mu    sync.Mutex
	state runnerapi.State
}

// change modifies the state and writes the file. A write error is only logged: the machine does not
// depend on it.
func (f *stateFile) change(alter func(*runnerapi.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	phase := f.state.Phase
	alter(&f.state)
	if f.state.Phase != runnerapi.Booting && f.state.Phase != runnerapi.NotReady {
		f.state.Stuck = false
	}
	if f.state.Phase != phase {
		f.state.Since = f.now().UTC()
		f.log(strings.TrimSuffix(fmt.Sprintf("%s: %s", f.state.Phase, f.state.Reason), ": "))
	}
	if err := writeFile(f.path, f.state); err != nil {
		f.log(fmt.Sprintf("write %s: %v", f.path, err))
	}
}

func (f *stateFile) get() runnerapi.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Warnings = slices.Clone(s.Warnings)
	return s
}

func writeFile(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}

const maxState = 1 << 20 // bytes

// readState returns the last written state, or that of a machine that is down if there is none.
func readState(vm phonepath.VM) (*runnerapi.State, error) {
	f, err := os.Open(vm.State())
	if errors.Is(err, fs.ErrNotExist) {
		return downState(vm), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, err
	}
	if !json.Valid(text) { // earlier versions did not sync: a power cut may have left an empty file, from an earlier boot
		return downState(vm), nil
	}
	return runnerapi.Decode(text)
}

func downState(vm phonepath.VM) *runnerapi.State {
	return &runnerapi.State{Format: runnerapi.Format, Name: vm.Name, Phase: runnerapi.Down}
}

// bootID returns the kernel's random ID of this boot. PIDs in the state of another boot are
// invalid.
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}
