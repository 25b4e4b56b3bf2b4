package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// maxForwarded bounds the connections at once: each is a process here and two on the phone.
const maxForwarded = 64

// forwardReport is what `sov forward --json` prints when it listens.
type forwardReport struct {
	Address string `json:"address"`
	URL     string `json:"url,omitempty"` // of a database
}

func newForward() *cobra.Command {
	var f phoneFlags
	var port uint16
	service := "postgres"
	c := &cobra.Command{
		Use:   "forward RECIPE",
		Short: "Reach a machine's database on the phone from this computer",
		Long: `Listen on a port of this computer and pass every connection through the cable, or ssh, to the database of a machine on the
phone, until Ctrl-C: SQL from here without a tailnet and without opening anything in the phone's network. The URL that is
printed works with psql and every other client of its kind; the password is the secret postgres.

Whoever works on this computer can connect to the port, and needs the password like everybody else.`,
		Example:           "  sov forward sql --port 5432\n  sov forward sql --device ssh:root@phone",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			name, err := machine(args)
			if err != nil {
				return err
			}
			if f.several() {
				return usagef("a port leads to one phone: name one with --device")
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error { return forward(ctx, s, name, service, port) })
		},
	}
	f.add(c)
	c.Flags().Uint16Var(&port, "port", 0, "port of 127.0.0.1; 0 takes a free one")
	c.Flags().StringVar(&service, "service", service, "what to reach, of what the machine offers")
	return c
}

func forward(ctx context.Context, s *fleet.Site, name, service string, port uint16) error {
	listen, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { listen.Close() })
	defer stop()
	report := forwardReport{Address: listen.Addr().String()}
	if service == "postgres" {
		report.URL = "postgresql://postgres@" + report.Address + "/postgres?sslmode=disable"
	}
	if err := report.print(s); err != nil {
		return err
	}
	var connections sync.WaitGroup
	defer connections.Wait()
	slots := make(chan struct{}, maxForwarded)
	for {
		conn, err := listen.Accept()
		if ctx.Err() != nil {
			return nil // Ctrl-C is how it ends
		}
		if err != nil {
			return err
		}
		slots <- struct{}{}
		connections.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			c := device.Command{Stdin: conn, Stdout: conn, Limit: device.NoLimit}
			if err := s.Runner(ctx, c, "connect", name, "--service", service); err != nil && ctx.Err() == nil {
				fmt.Fprintf(s.ErrOut, "forward: %v\n", err)
			}
		})
	}
}

func (r forwardReport) print(s *fleet.Site) error {
	if s.AsJSON {
		return printJSON(s.Out, r)
	}
	text := r.URL
	if text == "" {
		text = r.Address
	}
	if _, err := fmt.Fprintln(s.Out, text); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.ErrOut, "forward: Ctrl-C ends it")
	return err
}
