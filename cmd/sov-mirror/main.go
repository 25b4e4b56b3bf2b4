// Sov-mirror serves a registry and a package repository on this computer, for builds without access
// to Docker Hub and Alpine's package mirror.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/testkit/mirror"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand(os.Getenv).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sov-mirror:", err)
		os.Exit(1)
	}
}

const longHelp = `sov-mirror serves, on a loopback address, an image registry and a signed apk
package repository, which "sov build sql" can use instead of Docker Hub and
Alpine's mirror.

It is not Alpine. The packages are Debian's programs, fetched and verified by
apt in a separate folder, and repackaged as apk files; nothing is installed or
changed on this computer. The base image is Alpine's minirootfs if --fixtures
has one, or else a root file system in Alpine's layout with Debian's static
busybox.

The first start downloads about 90 MB and takes a minute; later starts take less
than a second and need no network. Ctrl-C stops it.`

const examples = `  sov-mirror
  sov-mirror --arch arm64 --listen 127.0.0.1:5080
  sov-mirror --release trixie                        # PostgreSQL 17, as in Alpine 3.22
  sov-mirror --release trixie --beside bookworm      # and 15, for a machine that upgrades
  sov-mirror --add redis-server --add redis-tools
  sov build sql --image 127.0.0.1:5080/library/alpine:3.22 \
      --repository http://127.0.0.1:5080/alpine/v3.22/main`

func newCommand(getenv func(string) string) *cobra.Command {
	var options mirror.Options
	var asJSON, prepareOnly bool
	cmd := &cobra.Command{
		Use:           "sov-mirror",
		Short:         "Serve a registry and an apk repository for builds without the public ones",
		Long:          longHelp,
		Example:       examples,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("fixtures") {
				options.Fixtures = mirror.FindFixtures(getenv, "../shared/alpine")
			}
			options.Log = cmd.ErrOrStderr()
			return serve(cmd.Context(), options, cmd.OutOrStdout(), asJSON, prepareOnly)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Dir, "dir", "", "cache folder (default sov/mirror in the user's cache folder)")
	flags.StringSliceVar(&options.Arches, "arch", nil, "architectures: arm64, amd64 (default both)")
	flags.StringVar(&options.Fixtures, "fixtures", "", "folder with Alpine's alpine-minirootfs-*.tar.gz for the base image\n(default $SOV_ALPINE_FIXTURES, or ../shared/alpine if it has them)")
	flags.StringVar(&options.Listen, "listen", "127.0.0.1:0", "loopback address and port to listen on; port 0: a free port")
	flags.StringArrayVar(&options.Add, "add", nil, "also serve this Debian package, under its name; may be repeated")
	flags.StringVar(&options.Release, "release", "", "use the programs of this Debian release, such as trixie, which has PostgreSQL 17 (default: this computer's)")
	flags.StringSliceVar(&options.Beside, "beside", nil, "also serve the PostgreSQL of these Debian releases, such as bookworm and bullseye, with the libraries\nthat the first release does not have; may be repeated")
	flags.BoolVar(&options.Refresh, "refresh", false, "ask Debian for newer packages")
	flags.BoolVar(&prepareOnly, "prepare", false, "fill the cache folder and stop")
	flags.BoolVar(&asJSON, "json", false, "when ready, print one line of JSON instead of a description")
	return cmd
}

// ready is the JSON object that --json prints once the mirror listens.
type ready struct {
	Event         string   `json:"event"` // "ready"
	Image         string   `json:"image"`
	PostgresImage string   `json:"postgres_image"`
	Repositories  []string `json:"repositories"`
	Keys          []string `json:"keys"` // paths
}

func serve(ctx context.Context, options mirror.Options, out io.Writer, asJSON, prepareOnly bool) error {
	m, err := mirror.Start(ctx, options)
	if err != nil {
		return err
	}
	defer m.Close()
	if asJSON {
		err = json.NewEncoder(out).Encode(ready{"ready", m.Image(), m.PostgresImage(), m.Repositories(), m.KeyFiles})
	} else {
		_, err = io.WriteString(out, m.Describe())
	}
	if err != nil || prepareOnly {
		return err
	}
	if !asJSON {
		fmt.Fprintln(out, "\nServing until Ctrl-C.")
	}
	<-ctx.Done()
	return nil
}
