package main

import (
	"errors"
	"strings"

	"github.com/sovereign-sql/sov/internal/host/query"
)

// ask runs the queries in order, in one session, and prints their results.
func (r *runner) ask() error {
	c := r.command
	answers, err := query.Run(c.Context(), r.vm.URL(), r.vm.Password(), r.queries)
	if answers == nil {
		return err
	}
	return errors.Join(printResult(c.OutOrStdout(), r.asJSON, answers, func(p *printer) {
		for _, answer := range answers {
			printTable(p, answer)
		}
	}), err)
}

// printTable prints rows like COPY's text format without escapes: tabs between columns, \N for
// NULL. For a statement without rows it prints the command tag.
func printTable(p *printer, t query.Table) {
	if len(t.Columns) == 0 {
		p.printf("%s\n", t.Tag)
		return
	}
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = `\N`
			if cell != nil {
				cells[i] = *cell
			}
		}
		p.printf("%s\n", strings.Join(cells, "\t"))
	}
}
