// Package query runs SQL statements in a database and returns the results as text.
package query

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// A Table is the result of one statement.
type Table struct {
	Columns []string    `json:"columns"`
	Rows    [][]*string `json:"rows"` // in PostgreSQL's text format; null is NULL
	Tag     string      `json:"tag"`  // such as "SELECT 1"
}

// Run sends texts one after the other in one session, and returns their results. With an error it
// returns the results before it. It uses the simple query protocol, so that one text may have
// several statements, as with psql's -c.
func Run(ctx context.Context, url, password string, texts []string) ([]Table, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	config.Password = password
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	answers := []Table{}
	for _, text := range texts {
		results, err := conn.Exec(ctx, text).ReadAll()
		if err != nil {
			return answers, fmt.Errorf("query %q: %w", text, err)
		}
		for _, result := range results {
			answers = append(answers, tableOf(result))
		}
	}
	return answers, nil
}

func tableOf(result *pgconn.Result) Table {
	t := Table{Columns: []string{}, Rows: [][]*string{}, Tag: result.CommandTag.String()}
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
