//go:build linux

package postgrestest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TLS returns lines of postgresql.conf that enable TLS, with a certificate from Pair.
func TLS(t *testing.T) string {
	t.Helper()
	return "ssl = on\n" + Certificate(OwnFile(t, "server.pem", Pair(t)))
}

// Pair returns a new self-signed certificate and its key, in PEM.
func Pair(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
}

// Certificate returns lines of postgresql.conf that name a file with a certificate and its key.
func Certificate(file string) string {
	return fmt.Sprintf("ssl_cert_file = '%s'\nssl_key_file = '%[1]s'\n", file)
}

// OwnFile creates a file that only the server can read, and returns its path. Start skips the test
// where such a file is impossible.
func OwnFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg") // not t.TempDir: postgres must have access
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, content, 0o600))
	if account, err := user.Lookup("postgres"); err == nil && os.Geteuid() == 0 {
		uid, _ := strconv.Atoi(account.Uid)
		must(t, os.Chown(dir, uid, -1))
		must(t, os.Chown(path, uid, -1))
	}
	return path
}

// SetPassword changes the password of a role.
func (s *Server) SetPassword(t *testing.T, role, password string) {
	t.Helper()
	s.Query(t, "ALTER ROLE "+role+" PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'")
}

// SocketFile returns the path of the server's socket.
func (s *Server) SocketFile() string {
	return filepath.Join(s.socket, fmt.Sprintf(".s.PGSQL.%d", s.Port))
}
