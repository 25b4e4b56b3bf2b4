package tailnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// recordFile is the name of the record, in the directory of tailscaled's state.
const recordFile = "sov-node.json"

const (
	maxState  = 4 << 20 // largest state, in bytes; a real one has a few KiB
	maxRecord = 64 << 10
)

// A record stores, in addition to tailscaled's own state, the history of a machine's node, so that
// the machine becomes another node only at the user's request.
type record struct {
	Keys    []string `json:"keys,omitempty"`    // digests of the auth keys with which the machine has joined
	Joining string   `json:"joining,omitempty"` // digest of the key of a join that has not completed
	Host    string   `json:"host,omitempty"`    // configdisk.Config.Host of the host on which the state was created
	Lost    string   `json:"lost,omitempty"`    // what happened to a lost state; empty if none was lost
	Kept    string   `json:"kept,omitempty"`    // the file with the lost state
	Copied  bool     `json:"copied,omitempty"`  // the lost state is intact and of another host
	Allowed bool     `json:"allowed,omitempty"` // the user allows a new node with any key
	ID      string   `json:"id,omitempty"`      // of the last node that the machine was
	Name    string   `json:"name,omitempty"`    // of that node
}

// digest identifies a key. Keys are random, so it does not reveal them.
func digest(key string) string {
	sum := sha256.Sum256([]byte("sov tailnet key " + key))
	return hex.EncodeToString(sum[:16])
}

func (r *record) used(key string) bool { return slices.Contains(r.Keys, digest(key)) }

func (r *record) use(digest string) {
	if digest != "" && !slices.Contains(r.Keys, digest) {
		r.Keys = append(r.Keys, digest)
	}
}

// mayJoin reports whether a machine without a node may join with key.
func (r *record) mayJoin(key string) bool { return r.Lost == "" || r.mayRejoin(key) }

// mayRejoin reports whether a node that must log in may do so with key.
func (r *record) mayRejoin(key string) bool { return key != "" && (r.Allowed || !r.used(key)) }

// recordOf returns the path of the record of a state.
func recordOf(state string) string { return filepath.Join(filepath.Dir(state), recordFile) }

// loadRecord reads the record of a state. If it does not exist or is not JSON, the record is empty.
func loadRecord(state string) (*record, error) {
	text, err := bound.ReadFile(recordOf(state), maxRecord)
	r := new(record)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is known of the node: %w", err)
	}
	if json.Unmarshal(text, r) != nil {
		*r = record{}
	}
	return r, nil
}

func (r *record) store(state string) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = durable.WriteFile(recordOf(state), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("record what is known of the node: %w", err)
	}
	return nil
}

// checkState returns what is wrong with tailscaled's state, or "", and whether its node has joined.
// The state is a JSON object of base64 texts (Tailscale's ipn/store FileStore), with a profile for
// each login.
func checkState(text []byte) (fault string, joined bool) {
	switch {
	case len(text) == 0:
		return "is empty", false
	case len(bytes.Trim(text, "\x00")) == 0:
		return "holds nothing but zeros", false
	}
	var entries map[string][]byte
	if err := json.Unmarshal(text, &entries); err != nil {
		return fmt.Sprintf("is torn: its %d bytes are not the JSON that tailscaled writes", len(text)), false
	}
	for name := range entries {
		joined = joined || strings.HasPrefix(name, "profile-")
	}
	return "", joined
}

// Prepare must be called before tailscaled starts with state on host (empty: unknown). It puts
// aside a state that cannot be used, or that belongs to another host, so that the machine does not
// accidentally become a second node, and reports that to output. key is the machine's auth key; it
// may be empty.
func Prepare(state, host, key string, output io.Writer) error {
	r, err := loadRecord(state)
	if err != nil {
		return err
	}
	text, err := bound.ReadFile(state, maxState)
	fault, joined := "", false
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if len(r.Keys) == 0 || r.Lost != "" {
			break // the machine did not have a node
		}
		r.Lost = "tailscaled's state " + state + " has disappeared"
		fmt.Fprintln(output, "WARNING:", r.Lost)
	case err != nil:
		return fmt.Errorf("read tailscaled's state: %w", err)
	default:
		fault, joined = checkState(text)
	}
	copied := fault == "" && joined && host != "" && r.Host != "" && r.Host != host
	if copied {
		fault = "was made on another phone: one of the two disks is a copy"
	}
	if fault != "" {
		kept, err := putAside(state)
		if err != nil {
			return fmt.Errorf("put tailscaled's state aside: %w", err)
		}
		r.Lost, r.Kept, r.Copied, r.Allowed = fmt.Sprintf("tailscaled's state %s %s", state, fault), kept, copied, false
		if len(r.Keys) == 0 && key != "" { // the node may have joined with it
			r.use(digest(key))
		}
		fmt.Fprintf(output, "WARNING: %s; it is kept as %s\n", r.Lost, kept)
	}
	if host != "" {
		r.Host = host
	}
	return r.store(state)
}

// putAside renames a file, and returns its new path.
func putAside(path string) (string, error) {
	for n := 1; ; n++ {
		kept := path + ".kept-" + strconv.Itoa(n)
		if _, err := os.Lstat(kept); errors.Is(err, fs.ErrNotExist) {
			return kept, durable.Rename(path, kept)
		} else if err != nil {
			return "", err
		}
	}
}

// AllowNew allows a machine that has lost its node to become a new one with an auth key that was
// used before.
func AllowNew(state string) error {
	r, err := loadRecord(state)
	if err != nil {
		return err
	}
	r.Allowed = true
	return r.store(state)
}

// BecomeNew puts the node's state aside and allows the machine to join as a new node. It returns
// the path of the old state. tailscaled must not be running.
func BecomeNew(state string) (kept string, err error) {
	r, err := loadRecord(state)
	if err != nil {
		return "", err
	}
	if kept, err = putAside(state); err != nil {
		return "", fmt.Errorf("put tailscaled's state aside: %w", err)
	}
	r.Lost, r.Kept, r.Copied, r.Allowed = "a new node was asked for", kept, false, true
	r.ID, r.Name = "", "" // another machine may be that node
	return kept, r.store(state)
}

// TakeOver restores a state that was put aside because it was created on another host. tailscaled
// must not be running.
func TakeOver(state string) error {
	r, err := loadRecord(state)
	if err != nil {
		return err
	}
	if !r.Copied {
		return errors.New("no whole state of another phone was put aside")
	}
	if _, err := os.Lstat(r.Kept); err != nil {
		return err
	}
	if err := durable.Rename(r.Kept, state); err != nil {
		return err
	}
	r.Lost, r.Kept, r.Copied = "", "", false
	return r.store(state)
}

// old returns the machine's previous node if its state was lost, or nil if another machine may be
// that node.
func (r *record) old() *guestapi.TailnetNode {
	if r.Lost == "" || r.Copied || r.ID == "" {
		return nil
	}
	return &guestapi.TailnetNode{ID: r.ID, Name: r.Name}
}

// lostFault describes why a machine with a lost state cannot join its tailnet.
func (r *record) lostFault() string {
	text := r.Lost
	if r.Kept != "" {
		text += "; it is kept as " + r.Kept
	}
	text += ". The machine does not become another node by itself"
	if r.Copied {
		text += ": where the other phone is gone for good, `sov repair NAME --tailnet same` makes this one the node;"
	} else {
		text += ": remove the old node in the tailnet's admin console;"
	}
	return text + " a new auth key (`sov secrets set NAME tailscale`), or `sov repair NAME --tailnet new` with the key that it has, makes it a new node"
}
