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

// A stateFile is state.json and what it will say next.
type stateFile struct {
	path string
	now  func() time.Time
	log  func(string)

	mu    sync.Mutex
	state runnerapi.State
}

// change alters the state and the file. What cannot be written is logged: the machine's life does
// not hang on it.
func (f *stateFile) change(alter func(*runnerapi.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	phase := f.state.Phase
	alter(&f.state)
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

// readState returns the state that was last written, or a machine that is down where there is none
// to be read.
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
	if !json.Valid(text) { // earlier versions did not sync: a power cut may have left an empty file, of a boot that is over
		return downState(vm), nil
	}
	return runnerapi.Decode(text)
}

func downState(vm phonepath.VM) *runnerapi.State {
	return &runnerapi.State{Format: runnerapi.Format, Name: vm.Name, Phase: runnerapi.Down}
}

// bootID is the kernel's random name for this boot: a state of another boot tells nothing of
// processes.
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}
