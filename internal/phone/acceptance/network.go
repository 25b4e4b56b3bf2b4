package acceptance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// OnTailnet reports whether this computer has an interface on a tailnet. Tailscale's interfaces are
// tunnels with a single-address prefix, unlike those of a carrier's NAT.
func OnTailnet() bool {
	interfaces, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagPointToPoint == 0 {
			continue
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.IsSingleIP() && guestspec.IsTailnet(prefix.Addr()) {
				return true
			}
		}
	}
	return false
}

// Query logs in as a role, writes a row to a temporary table, reads it back, and returns the
// server's version. If authority, in PEM, is not empty, the server must have a certificate signed
// by it; otherwise Query does not use TLS.
func Query(ctx context.Context, address netip.AddrPort, as vmspec.Login, password, authority string, dial pgconn.DialFunc) (version string, err error) {
	config, err := pgconn.ParseConfig("sslmode=disable application_name=sov-test host=" + address.Addr().String() + " port=" + fmt.Sprint(address.Port()))
	if err != nil {
		return "", err
	}
	config.User, config.Database, config.Password = as.Role, as.Database, password
	if authority != "" {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(authority)) {
			return "", errors.New("the machine's certificate authority is not a certificate")
		}
		// Every machine's certificate has this name. The authority identifies the machine.
		config.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	}
	if dial != nil {
		config.DialFunc = dial
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const value = "41 and 1"
	results, err := conn.Exec(ctx, `create temporary table sov_test (line text);
		insert into sov_test values ('`+value+`');
		select line, current_setting('server_version') from sov_test`).ReadAll()
	if err != nil {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 || string(last.Rows[0][0]) != value {
		return "", errors.New("what was written did not come back")
	}
	version, _, _ = strings.Cut(string(last.Rows[0][1]), " ")
	return version, nil
}

// Echo sends an ICMP echo request to address and waits for the reply (RFC 792). It needs root.
func Echo(ctx context.Context, address netip.Addr) (time.Duration, error) {
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// A request may be lost, and a busy guest may answer after the next request was sent.
	const tries, patience = 5, time.Second
	var sent [tries + 1]time.Time
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("ping %s: %w", address, err)
	}
	id := uint16(os.Getpid())
	for try := uint16(1); try <= tries; try++ {
		sent[try] = time.Now()
		if _, err := conn.WriteTo(echoRequest(id, try), &net.IPAddr{IP: address.AsSlice()}); err != nil {
			return 0, fmt.Errorf("ping %s: %w", address, err)
		}
		if ctx.Err() == nil {
			conn.SetReadDeadline(sent[try].Add(patience))
		}
		if answered := awaitEcho(conn, address, id, try); answered > 0 {
			return time.Since(sent[answered]), nil
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("ping %s: %w", address, err)
		}
	}
	return 0, fmt.Errorf("ping %s: none of %d echo requests was answered", address, tries)
}

const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8
)

func echoRequest(id, sequence uint16) []byte {
	m := []byte{icmpEchoRequest, 0, 0, 0}
	m = binary.BigEndian.AppendUint16(m, id)
	m = binary.BigEndian.AppendUint16(m, sequence)
	var sum uint32 // one's complement sum of 16-bit words (RFC 1071)
	for i := 0; i < len(m); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(m[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum+sum>>16))
	return m
}

// awaitEcho reads until the reply to one of the requests up to last arrives, and returns its
// number, or 0 after the deadline.
func awaitEcho(conn net.PacketConn, address netip.Addr, id, last uint16) uint16 {
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return 0
		}
		ip, ok := from.(*net.IPAddr)
		if !ok || !ip.IP.Equal(address.AsSlice()) {
			continue
		}
		if sequence := replied(buffer[:n], id); sequence > 0 && sequence <= last {
			return sequence
		}
	}
}

// replied returns the number of the request that a message answers, or 0 if it is not such a reply.
func replied(m []byte, id uint16) uint16 {
	if len(m) < 8 || m[0] != icmpEchoReply || binary.BigEndian.Uint16(m[4:]) != id {
		return 0
	}
	return binary.BigEndian.Uint16(m[6:])
}
