package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"

	"tailscale.com/tailcfg"
)

// An issuer is a public certificate authority for tests. It implements the part of ACME (RFC 8555)
// that a client needs, for one order at a time, and does not verify signatures. It signs a name if
// the tailnet's DNS received a challenge for it after the order.
type issuer struct {
	base string // URL
	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	name   string // name in the order
	proven bool
	chain  []byte // PEM
	serial int64
}

// The paths below the issuer's URL.
const (
	acmeDirectory = "/acme/directory"
	acmeRoot      = "/acme/root" // the issuer's certificate, in PEM
)

func newIssuer(base string) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "public authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err = x509.ParseCertificate(der)
	return &issuer{base: base, root: root, key: key, serial: 1}, err
}

// setDNS handles DNS records for the tailnet: a challenge proves the order's name.
func (i *issuer) setDNS(r *tailcfg.SetDNSRequest) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.proven = i.proven || i.name != "" && r.Name == "_acme-challenge."+i.name
	return nil
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Replay-Nonce", rand.Text())
	at := func(path string) string { return i.base + path }
	status := "pending"
	if i.proven {
		status = "ready"
	}
	order := map[string]any{"status": status, "authorizations": []string{at("/acme/authorization")}, "finalize": at("/acme/finalize")}
	challenge := map[string]any{"type": "dns-01", "url": at("/acme/challenge"), "token": "token", "status": "pending"}
	answer := func(code int, body any) {
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(body)
	}
	switch r.URL.Path {
	case acmeDirectory:
		answer(http.StatusOK, map[string]string{"newNonce": at("/acme/nonce"), "newAccount": at("/acme/account"), "newOrder": at("/acme/order")})
	case acmeRoot:
		w.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.root.Raw}))
	case "/acme/nonce":
	case "/acme/account":
		w.Header().Set("Location", at("/acme/account/1"))
		answer(http.StatusOK, map[string]string{"status": "valid"})
	case "/acme/order":
		var request struct{ Identifiers []struct{ Value string } }
		if payload(r, &request) != nil || len(request.Identifiers) != 1 {
			answer(http.StatusBadRequest, nil)
			return
		}
		i.name, i.proven, order["status"] = request.Identifiers[0].Value, false, "pending"
		w.Header().Set("Location", at("/acme/order/1"))
		answer(http.StatusCreated, order)
	case "/acme/order/1":
		answer(http.StatusOK, order)
	case "/acme/authorization":
		answer(http.StatusOK, map[string]any{"status": "pending", "identifier": map[string]string{"type": "dns", "value": i.name}, "challenges": []any{challenge}})
	case "/acme/challenge":
		answer(http.StatusOK, challenge)
	case "/acme/finalize":
		if err := i.sign(r); err != nil {
			answer(http.StatusForbidden, map[string]string{"detail": err.Error()})
			return
		}
		order["status"], order["certificate"] = "valid", at("/acme/certificate")
		answer(http.StatusOK, order)
	case "/acme/certificate":
		w.Write(i.chain)
	default:
		http.NotFound(w, r)
	}
}

// sign issues the certificate that an order requests.
func (i *issuer) sign(r *http.Request) error {
	var request struct{ CSR string }
	if err := payload(r, &request); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(request.CSR)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	if !i.proven || len(csr.DNSNames) != 1 || csr.DNSNames[0] != i.name {
		return fmt.Errorf("%s was not proven to be yours", strings.Join(csr.DNSNames, ", "))
	}
	i.serial++
	about := &x509.Certificate{
		SerialNumber: big.NewInt(i.serial), DNSNames: csr.DNSNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
	}
	leaf, err := x509.CreateCertificate(rand.Reader, about, i.root, csr.PublicKey, i.key)
	i.chain = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.root.Raw})...)
	return err
}

// payload decodes the payload of a request (RFC 7515, section 7.2.2).
func payload(r *http.Request, into any) error {
	var signed struct{ Payload string }
	if err := json.NewDecoder(r.Body).Decode(&signed); err != nil {
		return err
	}
	text, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
