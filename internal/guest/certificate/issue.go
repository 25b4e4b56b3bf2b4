package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"time"
)

const (
	// life is how long a certificate is valid. After two thirds of it the certificate is renewed.
	life = 365 * 24 * time.Hour
	// early is how long before its creation a certificate becomes valid: a client's clock may be
	// behind.
	early = 24 * time.Hour
)

// A machine's first clock may be wrong by decades, so the authority is always valid. The end is
// that of RFC 5280, section 4.1.2.5, for certificates that do not expire.
var (
	always = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	never  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// A pair is a certificate and its key.
type pair struct {
	certificate *x509.Certificate
	chain       []*x509.Certificate // intermediate certificates; none for the machine's own
	key         *ecdsa.PrivateKey
}

// Types of PEM blocks.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
	ecKeyBlock       = "EC PRIVATE KEY" // tailscaled's
)

// newAuthority generates an authority with the machine's name.
func newAuthority(machine string) (pair, error) {
	serial := rand.Text()
	return issue(nil, &x509.Certificate{
		Subject:   pkix.Name{CommonName: fmt.Sprintf("sov %.40s %s", machine, serial[:8])}, // at most 64 characters (RFC 5280, appendix A.1)
		NotBefore: always, NotAfter: never,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
}

// newServer makes a certificate for a server of these names and addresses.
func newServer(authority *pair, names []string, now time.Time) (pair, error) {
	c := &x509.Certificate{
		NotBefore: now.Add(-early).UTC(), NotAfter: now.Add(life).UTC(),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		// Before PostgreSQL 15, libpq compares an address of the URL with names only.
		c.DNSNames = append(c.DNSNames, name)
		if a, err := netip.ParseAddr(name); err == nil {
			c.IPAddresses = append(c.IPAddresses, a.AsSlice())
		}
	}
	if len(names) > 0 {
		c.Subject.CommonName = fmt.Sprintf("%.64s", names[0])
	}
	return issue(authority, c)
}

// issue generates a key and a certificate signed by the authority, or a self-signed one without an
// authority.
func issue(authority *pair, template *x509.Certificate) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive, and not shorter
	template.SerialNumber = new(big.Int).SetBytes(serial)
	parent, signer := template, crypto.Signer(key)
	if authority != nil {
		parent, signer = authority.certificate, authority.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return pair{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	return pair{certificate: certificate, key: key}, err
}

// pem returns the pair in PEM, in one file for both: PostgreSQL accepts that.
func (p pair) pem() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, err
	}
	text := p.public()
	for _, c := range p.chain {
		text += encode(c)
	}
	return append([]byte(text), pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: key})...), nil
}

// public is the certificate in PEM.
func (p pair) public() string { return encode(p.certificate) }

func encode(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c.Raw}))
}

// parse reads the output of pem, and of tailscaled.
func parse(text []byte) (p pair, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		switch block.Type {
		case certificateBlock:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return pair{}, err
			}
			if p.certificate == nil {
				p.certificate = c
			} else {
				p.chain = append(p.chain, c)
			}
		case ecKeyBlock:
			if p.key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
				return pair{}, err
			}
		case keyBlock:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return pair{}, err
			}
			p.key, _ = key.(*ecdsa.PrivateKey)
		}
	}
	if p.certificate == nil || p.key == nil || !p.key.PublicKey.Equal(p.certificate.PublicKey) {
		return pair{}, errors.New("it does not hold a certificate and its key")
	}
	return p, nil
}

// stale returns why a server's certificate must be replaced, or "" if it is good.
func (p pair) stale(authority *pair, names []string, now time.Time) string {
	c := p.certificate
	if c.CheckSignatureFrom(authority.certificate) != nil {
		return "another authority has signed it"
	}
	if why := p.valid(now); why != "" {
		return why
	}
	if now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)) {
		return "two thirds of its life are over"
	}
	for _, name := range names { // extra names do not matter: those of a tailnet are known late
		if !slices.Contains(c.DNSNames, name) {
			return "it lacks the name " + name
		}
	}
	return ""
}

// valid returns why a certificate cannot be used at that time, or "".
func (p pair) valid(now time.Time) string {
	switch c := p.certificate; {
	case now.Before(c.NotBefore):
		return "it is not valid yet"
	case now.After(c.NotAfter):
		return "it has expired"
	}
	return ""
}

// same reports whether both hold the same certificate.
func (p pair) same(other pair) bool { return bytes.Equal(p.certificate.Raw, other.certificate.Raw) }
