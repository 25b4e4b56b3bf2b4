package timekeeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/sntp"
)

const (
	hostEvery = 64 * time.Second
	// The host is one link away, but may be busy after a suspend.
	hostPatience = 3 * time.Second
	hostSamples  = 3
	hostAgain    = time.Second // for each sample after the first, which are optional

	// Pools allow requests only every few minutes; 17 minutes are the longest interval of a usual
	// client (2^10 s, RFC 5905, MAXPOLL).
	poolEvery    = 1024 * time.Second
	poolPatience = 5 * time.Second
	poolServers  = 4 // a majority must agree
	// agreement is the maximum difference between servers that agree: as large as slow mobile data
	// causes.
	agreement = time.Second
	// rateRest is the pause for a server that has sent RATE (too many requests).
	rateRest = time.Hour
)

// Host returns the source that reads the host's servers: the first one that answers.
func Host(servers []netip.AddrPort) Source {
	return Source{Name: "sntp", Every: hostEvery, Read: func(ctx context.Context) (Reading, error) {
		var faults []error
		for _, server := range servers {
			r, err := askOften(ctx, func(ctx context.Context) (Reading, error) { return askServer(ctx, server) })
			if err == nil {
				return r, nil
			}
			faults = append(faults, err)
		}
		return Reading{}, errors.Join(faults...)
	}}
}

// askOften queries a near server several times and returns the reading with the shortest round
// trip.
func askOften(ctx context.Context, ask func(context.Context) (Reading, error)) (Reading, error) {
	var best Reading
	for i := range hostSamples {
		patience := hostAgain
		if i == 0 {
			patience = hostPatience
		}
		r, err := askPatiently(ctx, patience, ask)
		if err != nil && i == 0 {
			return Reading{}, err
		}
		if err == nil && (i == 0 || r.Uncertainty < best.Uncertainty) {
			best = r
		}
	}
	return best, nil
}

func askPatiently(ctx context.Context, patience time.Duration, ask func(context.Context) (Reading, error)) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return ask(ctx)
}

func askServer(ctx context.Context, server netip.AddrPort) (Reading, error) {
	r, err := sntp.Client{}.Ask(ctx, server)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Server: server.Addr().String(), Offset: r.Offset, Uncertainty: r.Delay / 2}, nil
}

// A pool is a set of public servers, by name.
type pool struct {
	names   []string
	port    uint16
	resolve func(ctx context.Context, name string) ([]netip.Addr, error)

	mu      sync.Mutex
	resting map[netip.Addr]time.Time // servers that refused, and when they may be queried again
}

// Public returns the source of public servers, given by name or address. It queries several in
// parallel, and a majority of those that answer must agree: any of them could be wrong, and
// responses are not authenticated.
func Public(names []string) Source {
	p := &pool{names: names, port: sntp.Port, resolve: func(ctx context.Context, name string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	}}
	return p.source()
}

func (p *pool) source() Source {
	p.resting = make(map[netip.Addr]time.Time)
	return Source{Name: "pool", Every: poolEvery, Shared: true, Read: p.read}
}

func (p *pool) read(ctx context.Context) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, poolPatience)
	defer cancel()
	servers, err := p.servers(ctx)
	if len(servers) == 0 {
		return Reading{}, err
	}
	readings := make([]Reading, len(servers))
	faults := make([]error, len(servers))
	var all sync.WaitGroup
	for i, server := range servers {
		all.Go(func() {
			readings[i], faults[i] = askServer(ctx, netip.AddrPortFrom(server, p.port))
			p.heed(server, faults[i])
		})
	}
	all.Wait()
	var answers []Reading
	for i, err := range faults {
		if err == nil {
			answers = append(answers, readings[i])
		}
	}
	if len(answers) == 0 {
		return Reading{}, errors.Join(faults...)
	}
	return agree(answers)
}

// servers returns at most poolServers servers that may be queried now.
func (p *pool) servers(ctx context.Context) ([]netip.Addr, error) {
	var servers []netip.Addr
	var faults []error
	for _, name := range p.names {
		addresses, err := p.resolve(ctx, name)
		if err != nil {
			faults = append(faults, err)
		}
		p.mu.Lock()
		for _, a := range addresses {
			if a = a.Unmap(); !slices.Contains(servers, a) && time.Now().After(p.resting[a]) {
				servers = append(servers, a)
			}
		}
		p.mu.Unlock()
	}
	if len(servers) == 0 && len(faults) == 0 {
		faults = append(faults, fmt.Errorf("all servers of %v refused to be asked", p.names))
	}
	return servers[:min(len(servers), poolServers)], errors.Join(faults...)
}

// heed pauses a server that refused.
func (p *pool) heed(server netip.Addr, err error) {
	var kiss *sntp.Kiss
	if !errors.As(err, &kiss) {
		return
	}
	rest := rateRest
	if kiss.Final() {
		rest = 100 * 365 * 24 * time.Hour // for as long as this guest runs
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting[server] = time.Now().Add(rest)
}

// agree returns the most precise of the readings with which more than half agree.
func agree(readings []Reading) (Reading, error) {
	slices.SortFunc(readings, func(a, b Reading) int { return int(a.Uncertainty - b.Uncertainty) })
	for _, r := range readings {
		with := 0
		for _, other := range readings {
			if (r.Offset - other.Offset).Abs() <= agreement {
				with++
			}
		}
		if 2*with > len(readings) {
			return r, nil
		}
	}
	return Reading{}, fmt.Errorf("%d public servers tell different times", len(readings))
}
