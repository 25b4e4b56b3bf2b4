//go:build linux

package guest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sovereign-sql/sov/internal/guest/machinebackup"
)

// archive is the step service-archive.
func archive(ctx context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	flags := newFlags(machinebackup.StepArchive, stderr)
	if err := parse(flags, args); err != nil {
		return err
	}
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	if err := machinebackup.Archive(ctx, w, flags.Args()); err != nil {
		return err
	}
	return w.Flush()
}

// extract is the step service-extract.
func extract(_ context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	flags := newFlags(machinebackup.StepExtract, stderr)
	to := flags.String("to", "", "the `directory` to unpack to")
	if err := parse(flags, args); err != nil {
		return err
	}
	in := bufio.NewReaderSize(stdin, 64<<10)
	foreign, err := machinebackup.Extract(in, flags.Args(), *to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // the tar's padding
		return err
	}
	_, err = fmt.Println(foreign)
	return err
}
