package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/host/query"
)

// ask runs the queries in order, in one session, and prints what each of them answers.
func ask(c *cobra.Command, vm *localvm.VM, f runFlags) error {
	answers, err := query.Run(c.Context(), vm.URL(), vm.Password(), f.queries)
	if err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), answers)
	}
	for _, answer := range answers {
		if err := printTable(answer, c.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}

// print writes rows as COPY's text format would, without its escapes: columns between tabs, \N for NULL. A statement
// without rows prints its tag.
func printTable(t query.Table, w io.Writer) error {
	if len(t.Columns) == 0 {
		_, err := fmt.Fprintln(w, t.Tag)
		return err
	}
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = `\N`
			if cell != nil {
				cells[i] = *cell
			}
		}
		if _, err := fmt.Fprintln(w, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return nil
}
