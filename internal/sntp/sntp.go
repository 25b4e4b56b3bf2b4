// Package sntp is a client and a server of SNTP (RFC 4330, and RFC 5905 where that is clearer), for
// a guest and its host.
//
// The client sends a random number as the transmit timestamp, and rejects responses that do not
// repeat it: an attacker who cannot read the request cannot forge a response. The server is not
// authenticated.
package sntp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Port is the UDP port of NTP.
const Port = 123

// packetSize is a header's length in bytes, without extension fields or a MAC (RFC 5905, section
// 7.3).
const packetSize = 48

// version is the client's NTP version; the server repeats the client's.
const version = 4

// Modes of a packet (RFC 5905, figure 10) that this package uses.
const (
	modeClient = 3
	modeServer = 4
)

// Values of header fields (RFC 5905, figures 9 and 11).
const (
	leapUnknown = 3  // the server's clock was never set
	maxStratum  = 15 // 16 and above: not synchronized
)

// A timestamp is NTP's: seconds since 1900, modulo 2^32, and a binary fraction of a second.
type timestamp uint64

// Start of NTP's first and second era. Timestamps with the highest bit set are of the first era,
// others of the second (RFC 4330, section 3), which is correct from 1968 to 2104.
var (
	era0 = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	era1 = era0 + 1<<32
)

func timestampOf(t time.Time) timestamp {
	fraction := (uint64(t.Nanosecond())<<32 + 1e9/2) / 1e9
	return timestamp(uint64(t.Unix()-era0)<<32 + fraction)
}

// time converts t, rounded to nanoseconds.
func (t timestamp) time() time.Time {
	begin := era0
	if t>>63 == 0 {
		begin = era1
	}
	seconds, fraction := int64(t>>32), uint64(t&0xffffffff)
	return time.Unix(begin+seconds, int64((fraction*1e9+1<<31)>>32)).UTC()
}

// A packet is a header (RFC 5905, figure 8).
type packet struct {
	leap           uint8
	version        uint8
	mode           uint8
	stratum        uint8
	poll           int8     // log2 of seconds
	precision      int8     // log2 of seconds
	rootDelay      duration // round trip to the reference clock
	rootDispersion duration
	reference      [4]byte // identifies the server's time source; a kiss code if stratum is 0
	referenceTime  timestamp
	origin         timestamp // what the client sent as transmit
	receive        timestamp
	transmit       timestamp
}

// A duration is NTP's short format: seconds in 16.16 bits.
type duration uint32

func (d duration) duration() time.Duration { return time.Duration(uint64(d) * 1e9 >> 16) }

func shortDuration(d time.Duration) duration { return duration(uint64(d) << 16 / 1e9) }

// parse parses a header. It ignores extension fields and a MAC.
func parse(b []byte) (packet, error) {
	if len(b) < packetSize {
		return packet{}, fmt.Errorf("%d bytes are not an NTP packet", len(b))
	}
	p := packet{
		leap: b[0] >> 6, version: b[0] >> 3 & 7, mode: b[0] & 7, stratum: b[1], poll: int8(b[2]), precision: int8(b[3]),
		rootDelay: duration(binary.BigEndian.Uint32(b[4:])), rootDispersion: duration(binary.BigEndian.Uint32(b[8:])),
		reference:     [4]byte(b[12:16]),
		referenceTime: timestamp(binary.BigEndian.Uint64(b[16:])), origin: timestamp(binary.BigEndian.Uint64(b[24:])),
		receive: timestamp(binary.BigEndian.Uint64(b[32:])), transmit: timestamp(binary.BigEndian.Uint64(b[40:])),
	}
	if p.version < 1 || p.version > 4 {
		return packet{}, fmt.Errorf("NTP version %d", p.version)
	}
	return p, nil
}

func (p packet) bytes() []byte {
	b := make([]byte, 0, packetSize)
	b = append(b, p.leap<<6|p.version<<3|p.mode, p.stratum, byte(p.poll), byte(p.precision))
	b = binary.BigEndian.AppendUint32(b, uint32(p.rootDelay))
	b = binary.BigEndian.AppendUint32(b, uint32(p.rootDispersion))
	b = append(b, p.reference[:]...)
	for _, t := range []timestamp{p.referenceTime, p.origin, p.receive, p.transmit} {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	return b
}

// A Kiss is a kiss-o'-death packet (RFC 5905, section 7.4): the client must send requests less
// often, or none.
type Kiss struct {
	Code string // four ASCII letters, such as "RATE"
}

func (k *Kiss) Error() string { return "the server answers " + k.Code + " instead of the time" }

// Final reports whether the client must not send another request.
func (k *Kiss) Final() bool { return k.Code == "DENY" || k.Code == "RSTR" }

// errNotOurs is returned for a packet that is not the response to the request.
var errNotOurs = errors.New("not an answer to this question")

// maxDistance is the maximum root distance of a server (RFC 5905, MAXDIST).
const maxDistance = 1500 * time.Millisecond

// check validates a response (RFC 4330, section 5; RFC 5905, section 9.2) to the request with
// nonce.
func (p packet) check(nonce timestamp) error {
	if p.mode != modeServer || p.origin != nonce {
		return errNotOurs
	}
	if p.stratum == 0 {
		return p.kiss()
	}
	switch {
	case p.leap == leapUnknown || p.stratum > maxStratum:
		return errors.New("the server's own clock is not set")
	case p.transmit == 0 || p.receive == 0:
		return errors.New("the answer has no time in it")
	case p.transmit.time().Before(p.receive.time()):
		return errors.New("the answer was sent before the question came")
	case p.rootDelay.duration()/2+p.rootDispersion.duration() >= maxDistance:
		return errors.New("the server itself does not know the time well enough")
	}
	return nil
}

// kiss returns the error of a packet with stratum 0. Servers whose clock was never set send INIT or
// zeros.
func (p packet) kiss() error {
	for _, c := range p.reference {
		if c < 'A' || c > 'Z' {
			return errors.New("the server's own clock is not set")
		}
	}
	if code := string(p.reference[:]); code != kissInit {
		return &Kiss{code}
	}
	return errors.New("the server's own clock is not set")
}

// kissInit is the code of a server that is not synchronized yet.
const kissInit = "INIT"
