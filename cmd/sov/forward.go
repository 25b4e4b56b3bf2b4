package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/authority"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
	"github.com/sovereign-sql/sov/internal/host/localvm"
)

// forwardReport is the output of `sov forward --json` once it listens.
type forwardReport struct {
	Address string `json:"address"`
	URL     string `json:"url,omitempty"` // of a database
}

func newForward() *cobra.Command {
	var port uint16
	var accept bool
	service := guestspec.ServicePostgres
	return phoneVerb{
		use:   "forward",
		short: "Forward a port of this computer to a machine's database or another service",
		long: `Forward a port of this computer to a service of a machine on the phone, until Ctrl-C. Connections go
through the cable or ssh; they need no tailnet and no open port in the phone's network. The default
service is the database: sov prints a URL for PostgreSQL clients, and the password is the secret
postgres.

With this URL, clients verify the database's certificate (sslmode=verify-full). sov gets the
machine's certificate authority over the cable or ssh, and remembers it. If the machine later shows
another authority, sov refuses it unless --accept-authority is given.

--service takes the name of a service that network.publish of the recipe lists, or the number of a
TCP port there. UDP ports cannot be forwarded. All users of this computer can connect to the port.`,
		example: "  sov forward sql --port 5432\n  sov forward sql --device ssh:root@phone\n  sov forward web --service 8080",
		single:  "a port leads to one phone",
		flags: func(c *cobra.Command) {
			c.Flags().Uint16Var(&port, "port", 0, "port of 127.0.0.1; 0: a free port")
			c.Flags().StringVar(&service, "service", service, "the name of a service, or a port number")
			acceptFlag(c, &accept)
			if err := c.RegisterFlagCompletionFunc("service", published); err != nil {
				panic(err) // the flag does not exist: a mistake in this program
			}
		},
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			return forwardTo(ctx, s, name, service, port, accept)
		},
	}.command()
}

// published completes the published ports of a machine: those of the local build or, without one,
// those of the machine on a phone.
func published(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ports []vmspec.Port
	if len(args) == 1 {
		ports = publishedBy(c, args[0])
	}
	var names []string
	for _, p := range ports {
		if !p.UDP() {
			names = append(names, cmp.Or(p.Service, strconv.Itoa(p.Port))+"\tport "+strconv.Itoa(p.Port))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func publishedBy(c *cobra.Command, machine string) []vmspec.Port {
	if dir, err := built.Find(machine); err == nil {
		if spec, err := localvm.ReadSpec(dir); err == nil {
			return spec.Ports
		}
	}
	var f phoneFlags
	if devices, err := c.Flags().GetStringArray("device"); err == nil {
		f.devices = devices
	}
	phones, _ := f.reachable(c) // without a phone nothing is completed
	for _, phone := range phones {
		if now, err := install.Status(c.Context(), &fleet.Site{Phone: phone, Out: io.Discard, ErrOut: io.Discard}, machine); err == nil {
			return now.Network.Published
		}
	}
	return nil
}

// forwardTo forwards a service and prints its address, until ctx ends.
func forwardTo(ctx context.Context, s *fleet.Site, name, service string, port uint16, accept bool) error {
	return forwarding(ctx, s, name, service, port, accept, func(ctx context.Context, address netip.AddrPort, tls authority.Client) error {
		report := forwardReport{Address: address.String()}
		text := report.Address
		if service == guestspec.ServicePostgres {
			report.URL = "postgresql://postgres@" + tls.Host(address) + "/postgres?" + tls.Query(address, nil)
			text = report.URL
		}
		errOut := &printer{w: s.ErrOut}
		err := printResult(s.Out, s.AsJSON, report, func(p *printer) {
			p.printf("%s\n", text)
			errOut.printf("forward: Ctrl-C ends it\n")
		})
		if err == nil {
			<-ctx.Done()
		}
		return err
	})
}

// forwarding forwards connections from a local port to a service of a running machine while use
// runs. Port 0 selects a free port. accept allows a changed certificate authority of the machine.
func forwarding(ctx context.Context, s *fleet.Site, name, service string, port uint16, accept bool,
	use func(context.Context, netip.AddrPort, authority.Client) error) error {
	now, err := install.Status(ctx, s, name)
	if err != nil {
		return err
	}
	if !now.CrosvmAlive {
		return fmt.Errorf("%s does not run on %s: `sov start %[1]s` starts it", name, s.Name())
	}
	var tls authority.Client
	if service == guestspec.ServicePostgres {
		if tls, err = install.DatabaseClient(s.Phone, now, accept); err != nil {
			return err
		}
	}
	listen, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Forward(ctx, listen, name, service)
		end()
	}()
	err = use(ctx, listen.Addr().(*net.TCPAddr).AddrPort(), tls)
	end()
	return errors.Join(err, <-ended)
}

// acceptFlag adds the flag that accepts a changed certificate authority.
func acceptFlag(c *cobra.Command, accept *bool) {
	c.Flags().BoolVar(accept, "accept-authority", false, "accept a new certificate authority of the machine")
}
