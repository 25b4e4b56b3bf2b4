//go:build linux

package certificate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// Files in Keeper.Dir. Each has a certificate and its key, so that a power cut cannot leave half a
// pair.
const (
	authorityFile = "authority.pem"
	serverFile    = "server.pem"
	tailnetFile   = "tailnet.pem"
)

// A Keeper manages the certificate of the machine's services.
type Keeper struct {
	Dir      string // on the data disk; created with access for root only
	Machine  string // names a new authority
	Services []guestspec.Service
	Now      func() time.Time
	// Names are the host names and addresses by which clients reach the machine; the first names
	// it.
	Names func(context.Context) []string
	// Reload makes a running service read its file again.
	Reload  func(service string)
	Log     func(text string) // logs what was done
	Tailnet Issuer            // for services with its certificate; nil if there are none

	checking sync.Mutex // held by Check, which writes files

	mu        sync.Mutex
	authority string // PEM
	own       string // PEM
	order     order
	// The name of the tailnet's certificate while services use it, or why they do not.
	shown, why string
}

// Intervals of Watch and WatchTailnet: a phone's clock may jump at any time, and the machine's name
// on a tailnet is known only some time after the start.
const (
	interval      = time.Minute
	firstInterval = 10 * time.Second
	first         = 30 // how many times
)

// pause waits before check n, from 0, and reports whether ctx is not done.
func pause(ctx context.Context, n int) bool {
	wait := interval
	if n < first {
		wait = firstInterval
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// Watch calls Check until ctx is done.
func (k *Keeper) Watch(ctx context.Context) {
	logged := ""
	for n := 0; pause(ctx, n); n++ {
		text := ""
		if err := k.Check(ctx); err != nil {
			text = err.Error()
		}
		if text != logged && text != "" { // once, not every minute
			k.Log(text)
		}
		logged = text
	}
}

// Used reports whether any service has a certificate.
func (k *Keeper) Used() bool {
	for _, s := range k.Services {
		if s.Certificate != "" {
			return true
		}
	}
	return false
}

// Authority returns the CA certificate in PEM, or "" before the first Check.
func (k *Keeper) Authority() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.authority
}

// Check generates the authority and the certificate if they do not exist, replaces a stale
// certificate, and writes the current one to every service's file.
func (k *Keeper) Check(ctx context.Context) error {
	k.checking.Lock()
	defer k.checking.Unlock()
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	authority, err := k.readAuthority()
	if err != nil {
		return fmt.Errorf("certificate: authority: %w", err)
	}
	server, err := k.serverPair(ctx, authority)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	k.mu.Lock()
	k.authority, k.own = authority.public(), server.public()
	k.mu.Unlock()
	tailnet := k.tailnetPair()
	var failed error
	for _, s := range k.Services {
		if s.Certificate == "" {
			continue
		}
		shown := server
		if s.TailnetCertificate && tailnet != nil {
			shown = *tailnet
		}
		given, err := give(s, shown)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("certificate for service %s: %w", s.Name, err))
		} else if given {
			k.Reload(s.Name)
		}
	}
	return failed
}

// readAuthority returns the authority, and generates it if it does not exist. It renames a file
// that cannot be read.
func (k *Keeper) readAuthority() (*pair, error) {
	path := filepath.Join(k.Dir, authorityFile)
	p, err := read(path)
	if err == nil {
		return &p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		aside := path + ".unreadable"
		if err := durable.Rename(path, aside); err != nil {
			return nil, err
		}
		k.Log(fmt.Sprintf("the certificate authority in %s cannot be read: %v: it is kept as %s, and a new one is made, which clients have to accept", path, err, aside))
	}
	if p, err = newAuthority(k.Machine); err != nil {
		return nil, err
	}
	if err := write(path, p); err != nil {
		return nil, err
	}
	k.Log("a certificate authority was made for this machine")
	return &p, nil
}

// serverPair returns a valid certificate.
func (k *Keeper) serverPair(ctx context.Context, authority *pair) (pair, error) {
	path := filepath.Join(k.Dir, serverFile)
	names := k.Names(ctx)
	p, err := read(path)
	why := "there is none"
	switch {
	case err == nil:
		if why = p.stale(authority, names, k.Now()); why == "" {
			return p, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		why = err.Error()
	}
	if p, err = newServer(authority, names, k.Now()); err != nil {
		return pair{}, err
	}
	if err := write(path, p); err != nil {
		return pair{}, err
	}
	k.Log(fmt.Sprintf("a certificate was made, valid until %s: %s", p.certificate.NotAfter.Format(time.DateOnly), why))
	return p, nil
}

func read(path string) (pair, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return pair{}, err
	}
	return parse(text)
}

func write(path string, p pair) error {
	text, err := p.pem()
	if err != nil {
		return err
	}
	return durable.WriteFile(path, text, 0o600)
}

// give writes a service's file unless it has this certificate, and reports whether it did.
func give(s guestspec.Service, p pair) (bool, error) {
	if has, err := read(s.Certificate); err == nil && has.same(p) {
		return false, nil
	}
	owner, _, err := process.Credential(s.User, s.Group)
	if err != nil {
		return false, err
	}
	text, err := p.pem()
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(s.Certificate), 0o755); err != nil {
		return false, err
	}
	f, err := durable.Create(s.Certificate, 0o600, durable.NoSync()) // in memory
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return false, err
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return false, err
	}
	return true, f.Commit()
}
