//go:build linux

package certificate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// An Issuer gets certificates from a public authority for the machine's name on its tailnet.
type Issuer interface {
	// CertificateName returns the name, or the reason why there is no certificate for it. It sends
	// nothing to a network.
	CertificateName(context.Context) (string, error)
	// Certificate returns a certificate for the name, its chain and its key, in PEM. It returns the
	// same certificate until the issuer has renewed it.
	Certificate(ctx context.Context, name string) ([]byte, error)
}

// An order is the state of the requests to the issuer.
type order struct {
	name   string    // of the last request
	next   time.Time // of the next request
	failed int       // number of consecutive failures
	why    string    // why the last request failed
	away   string    // why the machine has no name now
}

const (
	// The issuer renews a certificate automatically, a month before it expires.
	askInterval = time.Hour
	// Let's Encrypt allows five failed orders per hour and name.
	firstRetry, lastRetry = 15 * time.Minute, 6 * time.Hour
	// orderLimit is the timeout of one order, during which the authority queries the tailnet's DNS.
	orderLimit = 5 * time.Minute
)

// WatchTailnet keeps the tailnet's certificate current for the services that use it, until ctx is
// done.
func (k *Keeper) WatchTailnet(ctx context.Context) {
	if k.Tailnet == nil {
		return
	}
	for n := 0; pause(ctx, n); n++ {
		k.AskTailnet(ctx)
	}
}

// AskTailnet requests the tailnet's certificate if it is due, and calls Check, which gives it to
// the services.
func (k *Keeper) AskTailnet(ctx context.Context) {
	k.mu.Lock()
	o := k.order
	k.mu.Unlock()
	now := k.Now()
	name, err := k.Tailnet.CertificateName(ctx)
	o.away = ""
	if err != nil {
		o.away = err.Error()
	}
	due := name != o.name || !now.Before(o.next) || o.next.Sub(now) > lastRetry // the clock may have been set back
	if err == nil && due {
		if name != o.name {
			o.failed = 0
		}
		o.name = name
		if err := k.fetch(ctx, name); err != nil {
			o.why, o.next = err.Error(), now.Add(min(firstRetry<<min(o.failed, 10), lastRetry))
			o.failed++
		} else {
			o.why, o.failed, o.next = "", 0, now.Add(askInterval)
		}
	}
	k.mu.Lock()
	k.order = o
	k.mu.Unlock()
	if err := k.Check(ctx); err != nil {
		k.Log(err.Error())
	}
}

// fetch stores the certificate for a name beside the machine's own certificate.
func (k *Keeper) fetch(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, orderLimit)
	defer cancel()
	text, err := k.Tailnet.Certificate(ctx, name)
	if err != nil {
		return err
	}
	p, err := parse(text)
	if err != nil {
		return fmt.Errorf("tailscaled's certificate for %s: %w", name, err)
	}
	if err := p.certificate.VerifyHostname(name); err != nil {
		return fmt.Errorf("tailscaled's certificate: %w", err)
	}
	k.checking.Lock()
	defer k.checking.Unlock()
	path := filepath.Join(k.Dir, tailnetFile)
	if has, err := read(path); err == nil && has.same(p) {
		return nil
	}
	if err := write(path, p); err != nil {
		return err
	}
	k.Log(fmt.Sprintf("the tailnet's certificate for %s was taken, valid until %s", name, p.certificate.NotAfter.Format(time.DateOnly)))
	return nil
}

// tailnetPair returns the tailnet's certificate if it is valid now, and logs the reason when it is
// not. The caller holds k.checking.
func (k *Keeper) tailnetPair() *pair {
	if k.Tailnet == nil {
		return nil
	}
	k.mu.Lock()
	o, before := k.order, k.why
	k.mu.Unlock()
	p, err := read(filepath.Join(k.Dir, tailnetFile))
	var name, why string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = "there is none yet"
	case err != nil:
		why = err.Error()
	default:
		if why = p.valid(k.Now()); why == "" && o.name != "" && p.certificate.VerifyHostname(o.name) != nil {
			why = "it is not for the node's name, " + o.name
		}
		if len(p.certificate.DNSNames) > 0 { // else VerifyHostname has failed
			name = p.certificate.DNSNames[0]
		}
	}
	if why != "" {
		name = ""
		if reason := cmp.Or(o.away, o.why); reason != "" {
			why += ": " + reason
		}
		if why != before {
			k.Log("clients see a certificate of the machine's own authority in place of the tailnet's: " + why)
		}
	}
	k.mu.Lock()
	k.shown, k.why = name, why
	k.mu.Unlock()
	if why != "" {
		return nil
	}
	return &p
}

// Shown returns the name of the tailnet's certificate if services use it, or the reason why they do
// not. Both are empty if no service is configured to use it.
func (k *Keeper) Shown() (name, why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.shown, k.why
}

// Own returns the certificate that the machine's own authority has signed, in PEM.
func (k *Keeper) Own() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.own
}
