package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/localvm"
)

// A table is the answer to one statement.
type table struct {
	Columns []string    `json:"columns"`
	Rows    [][]*string `json:"rows"` // in PostgreSQL's text format; null is NULL
	Tag     string      `json:"tag"`  // such as "SELECT 1"
}

// ask runs the queries in order, in one session, and prints what each of them answers.
func ask(c *cobra.Command, vm *localvm.VM, f runFlags) error {
	answers, err := query(c.Context(), vm, f.queries)
	if err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), answers)
	}
	for _, answer := range answers {
		if err := answer.print(c.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}

// query uses the simple protocol, so that one text may hold several statements, as psql's -c does.
func query(ctx context.Context, vm *localvm.VM, texts []string) ([]table, error) {
	config, err := pgconn.ParseConfig(vm.URL())
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	config.Password = vm.Password()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	answers := []table{}
	for _, text := range texts {
		results, err := conn.Exec(ctx, text).ReadAll()
		if err != nil {
			return nil, fmt.Errorf("query %q: %w", text, err)
		}
		for _, result := range results {
			answers = append(answers, tableOf(result))
		}
	}
	return answers, nil
}

func tableOf(result *pgconn.Result) table {
	t := table{Columns: []string{}, Rows: [][]*string{}, Tag: result.CommandTag.String()}
	for _, field := range result.FieldDescriptions {
		t.Columns = append(t.Columns, field.Name)
	}
	for _, values := range result.Rows {
		row := make([]*string, len(values))
		for i, value := range values {
			if value != nil {
				text := string(value)
				row[i] = &text
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// print writes rows as COPY's text format would, without its escapes: columns between tabs, \N for NULL. A statement
// without rows prints its tag.
func (t table) print(w io.Writer) error {
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
