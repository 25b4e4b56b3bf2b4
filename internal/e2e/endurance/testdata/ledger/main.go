// Command ledger stands in for Forgejo and for Vaultwarden: a web application that keeps names in a
// PostgreSQL database and in files, and takes its settings as these do. POST /NAME adds a name; GET
// / prints those of the database, those that have a file, and the process of its session in the
// server.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A ledger has one session, which it opens again when it has ended.
type ledger struct {
	database string
	dir      string

	mu      sync.Mutex
	session *pgx.Conn
}

func main() {
	l, port := &ledger{database: os.Getenv("DATABASE_URL"), dir: os.Getenv("DATA_FOLDER")}, os.Getenv("ROCKET_PORT")
	if i := slices.Index(os.Args, "--config"); i > 0 {
		ini, err := read(os.Args[i+1])
		if err != nil {
			log.Fatal(err)
		}
		if ini["database.DB_TYPE"] != "postgres" {
			log.Fatalf("DB_TYPE is %q", ini["database.DB_TYPE"])
		}
		// As Forgejo has it, with an empty password.
		l.database = (&url.URL{Scheme: "postgres", User: url.UserPassword(ini["database.USER"], ""), Host: ini["database.HOST"],
			Path: ini["database.NAME"], RawQuery: "sslmode=disable"}).String()
		l.dir, port = ini[".WORK_PATH"], ini["server.HTTP_PORT"]
	}
	if err := l.open(); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(net.JoinHostPort("", port), l))
}

// read returns the values of an INI file by section and key.
func read(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	values, section := map[string]string{}, ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
		} else if key, value, ok := strings.Cut(line, " = "); ok {
			values[section+"."+key] = value
		}
	}
	return values, lines.Err()
}

// open makes the table and the folder. Both programs try for a while.
func (l *ledger) open() (err error) {
	if err := os.MkdirAll(filepath.Join(l.dir, "names"), 0o750); err != nil {
		return err
	}
	for range 10 {
		if _, err = l.query("create table if not exists names (name text primary key)"); err == nil {
			return nil
		}
		log.Print(err)
		time.Sleep(3 * time.Second)
	}
	return err
}

// query runs a statement in the session, or in a new one, and returns the first column.
func (l *ledger) query(sql string, args ...any) (column []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 2 {
		if l.session == nil || l.session.IsClosed() {
			if l.session, err = pgx.Connect(ctx, l.database); err != nil {
				return nil, err
			}
		}
		var rows pgx.Rows
		if rows, err = l.session.Query(ctx, sql, args...); err == nil {
			column, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err == nil || !l.session.IsClosed() {
			return column, err
		}
	}
	return nil, err
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var err error
	if name := filepath.Base(r.URL.Path); r.Method == http.MethodPost {
		if _, err = l.query("insert into names values ($1) on conflict do nothing", name); err == nil {
			err = os.WriteFile(filepath.Join(l.dir, "names", name), nil, 0o640)
		}
	} else {
		var rows, session []string
		var files []os.DirEntry
		if rows, err = l.query("select name from names order by name"); err == nil {
			session, err = l.query("select pg_backend_pid()::text")
		}
		if err == nil {
			files, err = os.ReadDir(filepath.Join(l.dir, "names"))
		}
		if err == nil {
			fmt.Fprintf(w, "%s;", strings.Join(rows, " "))
			for _, f := range files {
				fmt.Fprintf(w, " %s", f.Name())
			}
			fmt.Fprintf(w, "; %s", session[0])
		}
	}
	if err != nil {
		log.Print(err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}
