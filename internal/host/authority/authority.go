// Package authority remembers the certificate authorities of machines, as ssh remembers host keys,
// and says how clients of a machine's database use them. What an authority is asked of, and over
// which channel, is for the caller.
package authority

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/durable"
)

// A Store is a folder with a file for each machine on each phone.
type Store struct{ dir string }

// In returns the store in sov's state folder.
func In(state string) Store { return Store{filepath.Join(state, "authorities")} }

// A Client is how a client connects to a database. The zero Client does without TLS.
type Client struct {
	RootCert string // path of the authority's certificate, in PEM; empty: the server's certificate is not verified
	Name     string // what the certificate is for, where that is not the host of the address; needs RootCert
	Encrypt  bool   // without RootCert: encrypt all the same
}

// Require is the sslmode that encrypts and does not verify.
const Require = "require"

// Mode is libpq's sslmode.
func (c Client) Mode() string {
	switch {
	case c.RootCert != "":
		return "verify-full"
	case c.Encrypt:
		return Require
	}
	return "disable"
}

// Host returns the host and port of a connection URL for an address, IP:PORT.
func (c Client) Host(address netip.AddrPort) string {
	if c.Name == "" {
		return address.String()
	}
	return net.JoinHostPort(c.Name, strconv.Itoa(int(address.Port())))
}

// Query returns the parameters of a connection URL for an address, and more ones, in the order of
// their names. libpq takes no "+" for a space, and a query may hold a slash (RFC 3986, section
// 3.4). A URL with a name of the certificate's has the address as hostaddr, which libpq's kind of
// clients know.
func (c Client) Query(address netip.AddrPort, more url.Values) string {
	query := url.Values{"sslmode": {c.Mode()}}
	if c.RootCert != "" {
		query.Set("sslrootcert", c.RootCert)
	}
	if c.Name != "" {
		query.Set("hostaddr", address.Addr().String())
	}
	for name, values := range more {
		query[name] = values
	}
	return strings.NewReplacer("%2F", "/", "+", "%20").Replace(query.Encode())
}

// Environment returns libpq's variables for an address.
func (c Client) Environment(address netip.AddrPort) []string {
	env := []string{"PGPORT=" + strconv.Itoa(int(address.Port())), "PGSSLMODE=" + c.Mode()}
	if c.RootCert != "" {
		env = append(env, "PGSSLROOTCERT="+c.RootCert)
	}
	if c.Name != "" {
		return append(env, "PGHOST="+c.Name, "PGHOSTADDR="+address.Addr().String())
	}
	return append(env, "PGHOST="+address.Addr().String())
}

// A ChangedError says that a machine has another authority than before.
type ChangedError struct {
	Machine, Phone string
	Before, Now    string // fingerprints; Now is empty where it shows none any more
	File           string
}

func (e *ChangedError) Error() string {
	now := "another certificate authority, " + e.Now
	if e.Now == "" {
		now = "no certificate authority"
	}
	return fmt.Sprintf("%s on %s shows %s, and before it showed %s (%s): its data disk is new, it runs another version, or another system answers: "+
		"find out which, then accept it with --accept-authority", e.Machine, e.Phone, now, e.Before, e.File)
}

// Check compares the authority that a machine on a phone shows, in PEM, with the one of earlier
// times, and returns how clients connect. The first one is kept. Another one, or none (""), is a
// *ChangedError unless accept is set.
func (s Store) Check(phone, machine, shown string, accept bool) (Client, error) {
	path := s.path(phone, machine)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Client{}, err
	}
	if shown != "" {
		if _, err := fingerprint([]byte(shown)); err != nil {
			return Client{}, fmt.Errorf("the certificate authority of %s on %s: %w", machine, phone, err)
		}
	}
	switch {
	case err != nil && shown == "":
		return Client{}, nil
	case err == nil && string(before) == shown:
		return Client{RootCert: path}, nil
	case err == nil && !accept:
		e := &ChangedError{Machine: machine, Phone: phone, File: path}
		e.Before, _ = fingerprint(before) // a file that holds none is another one, too
		e.Now, _ = fingerprint([]byte(shown))
		return Client{}, e
	case shown == "":
		return Client{}, s.Forget(phone, machine)
	}
	if err := durable.MkdirAll(s.dir, 0o755); err != nil {
		return Client{}, err
	}
	return Client{RootCert: path}, durable.WriteFile(path, []byte(shown), 0o644)
}

// Known returns how clients connect to a machine that does not answer now, by what is kept of it.
func (s Store) Known(phone, machine string) Client {
	path := s.path(phone, machine)
	if _, err := os.Stat(path); err != nil {
		return Client{}
	}
	return Client{RootCert: path}
}

// Forget removes what is kept of a machine on a phone.
func (s Store) Forget(phone, machine string) error {
	err := os.Remove(s.path(phone, machine))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// path is the machine's file. A phone's name may hold anything, so its file's has a part of its
// digest.
func (s Store) path(phone, machine string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, phone)
	sum := sha256.Sum256([]byte(phone))
	return filepath.Join(s.dir, fmt.Sprintf("%s@%.40s-%s.crt", machine, plain, hex.EncodeToString(sum[:4])))
}

// fingerprint is the SHA-256 of a certificate in PEM, as ssh prints a key's.
func fingerprint(text []byte) (string, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return "", errors.New("it is not a certificate in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	if !c.IsCA {
		return "", errors.New("it is not the certificate of an authority")
	}
	sum := sha256.Sum256(c.Raw)
	return "SHA256:" + hex.EncodeToString(sum[:]), nil
}
