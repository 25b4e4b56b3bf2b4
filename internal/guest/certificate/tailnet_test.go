//go:build linux

package certificate

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An issuer signs certificates for a name with a chain of two, as tailscaled does.
type issuer struct {
	t         *testing.T
	name      string
	nameErr   error
	failure   error
	now       *time.Time
	issued    []byte
	renew     bool
	asked     int
	root, mid pair
}

func newIssuer(t *testing.T, now *time.Time) *issuer {
	t.Helper()
	authority := x509.Certificate{NotBefore: always, NotAfter: never, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	signed := authority
	root, err := issue(nil, &authority)
	if err != nil {
		t.Fatal(err)
	}
	mid, err := issue(&root, &signed)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, name: "sql.tail1.ts.net", now: now, root: root, mid: mid}
}

func (i *issuer) CertificateName(context.Context) (string, error) { return i.name, i.nameErr }

func (i *issuer) Certificate(_ context.Context, name string) ([]byte, error) {
	i.asked++
	if i.failure != nil {
		return nil, i.failure
	}
	if i.issued == nil || i.renew {
		p, err := newServer(&i.mid, []string{name}, *i.now)
		if err != nil {
			i.t.Fatal(err)
		}
		key, err := x509.MarshalECPrivateKey(p.key)
		if err != nil {
			i.t.Fatal(err)
		}
		i.issued = append(pem.EncodeToMemory(&pem.Block{Type: ecKeyBlock, Bytes: key}), p.public()+i.mid.public()...)
	}
	return i.issued, nil
}

// TestTailnetCertificate tests a machine while the tailnet's certificate fails and changes. A
// server without TailnetCertificate always presents the machine's own certificate.
func TestTailnetCertificate(t *testing.T) {
	postgres, other := service(t), service(t)
	postgres.TailnetCertificate, other.Name = true, "other"
	b := newBench(t, postgres, other)
	b.names = append(b.names, "sql.tail1.ts.net")
	i := newIssuer(t, &b.now)
	b.Tailnet = i
	public := x509.NewCertPool()
	public.AddCert(i.root.certificate)
	shows := func() string {
		t.Helper()
		p, err := read(postgres.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		middle := x509.NewCertPool()
		for _, c := range p.chain {
			middle.AddCert(c)
		}
		if _, err := p.certificate.Verify(x509.VerifyOptions{Roots: public, Intermediates: middle, DNSName: "sql.tail1.ts.net", CurrentTime: b.now}); err == nil {
			return "tailnet"
		}
		b.given(t, b.names...)
		return "own"
	}
	shut := errors.New("the tailnet has no certificates")
	for _, step := range []struct {
		name  string
		do    func()
		shows string
		says  string // a part of the log; empty: nothing is logged
		why   string // a part of the reason in the status
		asked int
	}{
		{"the first start", func() { i.nameErr = shut }, "own", "in place of the tailnet's: there is none yet: the tailnet has no", "the tailnet has no", 0},
		{"nothing", func() {}, "own", "", "the tailnet has no", 0},
		{"the authority is out of reach", func() { i.nameErr, i.failure = nil, errors.New("no route") }, "own", "none yet: no route", "no route", 1},
		{"not asked again at once", func() { b.now = b.now.Add(time.Minute) }, "own", "", "no route", 0},
		{"off the tailnet", func() { i.nameErr = errors.New("not on its tailnet") }, "own", "none yet: not on its tailnet", "not on its tailnet", 0},
		{"and back, in the pause", func() { i.nameErr = nil }, "own", "none yet: no route", "no route", 0},
		{"the pause is over", func() { b.now = b.now.Add(firstRetry) }, "own", "", "no route", 1},
		{"it doubles", func() { b.now = b.now.Add(firstRetry + time.Minute) }, "own", "", "no route", 0},
		{"half a pair", func() { b.now, i.failure, i.issued = b.now.Add(firstRetry), nil, []byte("-----BEGIN") }, "own", "does not hold a certificate and its key", "does not hold", 1},
		{"a certificate", func() { b.now, i.issued = b.now.Add(lastRetry), nil }, "tailnet", "for sql.tail1.ts.net was taken, valid until 2027-11-27", "", 1},
		{"not asked again within the hour", func() { b.now = b.now.Add(askInterval / 2) }, "tailnet", "", "", 0},
		{"the same one", func() { b.now = b.now.Add(askInterval) }, "tailnet", "", "", 1},
		{"renewed", func() { b.now, i.renew = b.now.Add(200*24*time.Hour), true }, "tailnet", "valid until 2028-06-14", "", 1},
		{"logged out", func() { i.renew, i.nameErr = false, shut }, "tailnet", "", "", 0},
		{"expired, logged out", func() { b.now = b.now.AddDate(2, 0, 0) }, "own", "in place of the tailnet's: it has expired: the tailnet has no", "it has expired", 0},
		{"back", func() { i.nameErr, i.renew = nil, true }, "tailnet", "was taken", "", 1},
		{"the clock was set back", func() { b.now = b.now.AddDate(-1, 0, 0) }, "tailnet", "was taken", "", 1},
		{"another name", func() { i.name, i.failure = "other.tail1.ts.net", errors.New("rate limited") }, "own", "it is not for the node's name, other.tail1.ts.net: rate limited", "rate limited", 1},
		{"the name is back", func() { i.name, i.failure, i.renew = "sql.tail1.ts.net", nil, false }, "tailnet", "", "", 1},
	} {
		step.do()
		i.asked, b.reloaded = 0, nil
		before, _ := os.ReadFile(postgres.Certificate)
		said := b.check(t)
		b.said = nil
		b.AskTailnet(t.Context())
		said += strings.Join(b.said, "\n")
		tailnet := ""
		for line := range strings.Lines(said) {
			if strings.Contains(line, "tailnet's") {
				tailnet += line
			}
		}
		if got := shows(); got != step.shows || i.asked != step.asked {
			t.Errorf("%s: it shows the %s one, want %s; asked %d times, want %d", step.name, got, step.shows, i.asked, step.asked)
		}
		if (tailnet == "") != (step.says == "") || !strings.Contains(tailnet, step.says) {
			t.Errorf("%s: it says %q, want %q", step.name, tailnet, step.says)
		}
		name, why := b.Shown()
		if (name != "") != (step.shows == "tailnet") || (why == "") != (step.why == "") || !strings.Contains(why, step.why) {
			t.Errorf("%s: it tells of %q, %q", step.name, name, why)
		}
		after, _ := os.ReadFile(postgres.Certificate)
		if changed := string(before) != string(after); changed != (len(b.reloaded) > 0) {
			t.Errorf("%s: the file changed: %t, reloaded: %q", step.name, changed, b.reloaded)
		}
		if p, err := read(other.Certificate); err != nil || p.certificate.CheckSignatureFrom(i.mid.certificate) == nil {
			t.Errorf("%s: the service that wants the own certificate does not show it: %v", step.name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(b.Dir, tailnetFile)); err != nil || info.Mode() != 0o600 {
		t.Errorf("the certificate is kept with mode %v, %v", info.Mode(), err)
	}
	// After a restart the server presents it at once, before tailscaled runs.
	os.Remove(postgres.Certificate)
	again := &Keeper{Dir: b.Dir, Machine: "sql", Services: b.Services, Now: b.Now, Names: b.Names, Reload: b.Reload, Log: b.Log, Tailnet: i}
	if err := again.Check(t.Context()); err != nil || shows() != "tailnet" {
		t.Errorf("after a restart it shows the %s one, %v", shows(), err)
	}
}
