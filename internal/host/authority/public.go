package authority

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// CheckPublic returns how clients connect to a machine that has a certificate of a public authority
// for its name on the tailnet. It checks the machine's own authority as Check does. That authority
// must have signed the name as well: otherwise a false phone could name an attacker's server.
func (s Store) CheckPublic(phone, machine string, shown *guestapi.PublicCertificate, accept bool) (Client, error) {
	if _, err := s.Check(phone, machine, shown.Authority, accept); err != nil {
		return Client{}, err
	}
	if err := vouch(shown); err != nil {
		return Client{}, fmt.Errorf("the certificate of %s on %s for %s: the machine's own authority does not vouch for the name: %w: try again in a minute", machine, phone, shown.Name, err)
	}
	return Public(shown.Name), nil
}

// Public returns how clients connect to a server with a public authority's certificate for a name.
func Public(name string) Client { return Client{Name: name, RootCert: systemRoots()} }

// vouch checks that the authority has signed the name.
func vouch(shown *guestapi.PublicCertificate) error {
	for label := range strings.SplitSeq(shown.Name, ".") {
		if !guestspec.ValidHostname(label) {
			return fmt.Errorf("%q is not a host name", shown.Name) // it goes into a URL
		}
	}
	block, _ := pem.Decode([]byte(shown.Own))
	if block == nil {
		return errors.New("there is no certificate in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(shown.Authority))
	// Only the name matters, and the guest's clock may be wrong.
	_, err = c.Verify(x509.VerifyOptions{Roots: roots, DNSName: shown.Name, CurrentTime: c.NotBefore})
	return err
}

// rootFiles are the files with trusted authorities, in PEM, of Debian and Alpine, Fedora, SUSE and
// macOS.
var rootFiles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}

// systemRoots returns the file of this computer's authorities. libpq finds it itself only since
// PostgreSQL 16.
func systemRoots() string {
	if file := os.Getenv("SSL_CERT_FILE"); file != "" { // OpenSSL's, and Go's
		return file
	}
	for _, file := range rootFiles {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return "system"
}
