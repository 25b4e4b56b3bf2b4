package daemon

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
)

// sslRequest asks a PostgreSQL server whether it supports TLS. Every server answers with one byte
// (PostgreSQL's documentation, "Message Formats", SSLRequest).
var sslRequest = binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)

// probeDatabase checks that the server at address speaks PostgreSQL's protocol, and returns its
// certificate, or nil if it does not offer TLS. It does not verify the certificate.
func probeDatabase(ctx context.Context, address netip.AddrPort) (*health.Certificate, error) {
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer := make([]byte, 1)
	err = errors.Join(conn.SetDeadline(time.Now().Add(guestPatience)), send(conn, sslRequest))
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the server at %s: %w", address, err)
	}
	switch answer[0] {
	case 'N':
		return nil, nil
	case 'S':
		return certificateOf(ctx, conn, address)
	}
	return nil, fmt.Errorf("the server at %s is not PostgreSQL", address)
}

func certificateOf(ctx context.Context, conn net.Conn, address netip.AddrPort) (*health.Certificate, error) {
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // the certificate is only inspected; no data is sent
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with the server at %s: %w", address, err)
	}
	leaf := client.ConnectionState().PeerCertificates[0]
	return &health.Certificate{Subject: leaf.Subject.String(), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC()}, nil
}

func dial(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	// The kernel's error after 3 s of unanswered ARP requests is more precise than an earlier
	// timeout.
	d := net.Dialer{Timeout: 5 * time.Second}
	return d.DialContext(ctx, "tcp", address.String())
}

func send(w io.Writer, message []byte) error {
	_, err := w.Write(message)
	return err
}

// databaseAt adds the addresses of the machine's PostgreSQL to m, on the phone's network and on the
// tailnet.
func databaseAt(m *health.Machine, address netip.AddrPort) {
	if m.Database == nil || !address.IsValid() {
		return
	}
	m.Database.Address = address
	if m.Tailnet == nil {
		return
	}
	for _, text := range m.Tailnet.Addresses {
		if a, err := netip.ParseAddr(text); err == nil && guestspec.IsTailnet(a) {
			m.Database.Tailnet = append(m.Database.Tailnet, netip.AddrPortFrom(a, address.Port()))
		}
	}
	slices.SortFunc(m.Database.Tailnet, netip.AddrPort.Compare)
}
