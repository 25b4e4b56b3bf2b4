package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A Server is a PostgreSQL installation found in a root file system.
type Server struct {
	Dir     string `json:"dir"`     // absolute, with postgres and initdb in it
	Major   int    `json:"major"`   // 17
	Version string `json:"version"` // "17.6"
	// ICU says that the server was built with ICU.
	ICU bool `json:"icu"`
	// AuthDelay says that contrib's module auth_delay is among its libraries.
	AuthDelay bool `json:"auth_delay"`
	// TLS says that the server was built with OpenSSL.
	TLS bool `json:"tls"`
	// Sorting is a digest of the image's libraries that sort text, see sortingOf.
	Sorting string `json:"sorting"`
	// Old is the server of postgres.upgrade_from, whose clusters this one upgrades.
	Old *Server `json:"old,omitempty"`
}

// findServer looks for an executable postgres beside an initdb, wherever that
// is: /usr/libexec/postgresql17 on Alpine, /usr/lib/postgresql/17/bin on Debian,
// /usr/local/bin in the images of Docker Hub. p says which major versions there may be.
func findServer(t *tree.Tree, p recipe.Postgres) (*Server, error) {
	var found []*Server
	err := t.Walk(func(p string, n *tree.Inode) error {
		if path.Base(p) != "initdb" || !n.IsRegular() { // a symbolic link to initdb is not another server
			return nil
		}
		binary, ok := executable(t, path.Join(path.Dir(p), "postgres"))
		if _, runs := executable(t, p); !ok || !runs {
			return nil
		}
		s, err := identify(binary.Content.Open())
		if err != nil {
			return fmt.Errorf("/%s/postgres: %w", path.Dir(p), err)
		}
		s.Dir = "/" + path.Dir(p)
		s.AuthDelay = s.hasLibrary(t, "auth_delay")
		found = append(found, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("there is no PostgreSQL server in the base image or its packages (no executable postgres beside an initdb): " +
			"add the package postgresql to packages.install, or take a base image that has it")
	}
	return choose(found, p)
}

// hasLibrary reports whether a module is in the server's $libdir. Its path follows from that of the
// programs: in /usr/lib/postgresql17 for /usr/libexec/postgresql17, in /usr/lib/postgresql/17/lib
// for .../17/bin, in /usr/local/lib/postgresql for /usr/local/bin.
func (s *Server) hasLibrary(t *tree.Tree, name string) bool {
	for _, dir := range []string{strings.Replace(s.Dir, "/libexec/", "/lib/", 1), path.Join(s.Dir, "../lib"), path.Join(s.Dir, "../lib/postgresql")} {
		if _, n, err := t.Resolve(strings.TrimPrefix(dir, "/") + "/" + name + ".so"); err == nil && n.IsRegular() {
			return true
		}
	}
	return false
}

func executable(t *tree.Tree, p string) (*tree.Inode, bool) {
	_, n, err := t.Resolve(p)
	return n, err == nil && n.IsRegular() && n.Mode&0o111 != 0
}

// versionText is what `postgres --version` prints, which the binary holds as a string: "postgres
// (PostgreSQL) 17.6", in some packages with a suffix. Servers before 10 have three numbers.
var versionText = regexp.MustCompile(`postgres \(PostgreSQL\) ([0-9]{1,3})((?:\.[0-9]{1,3}){1,2}|devel|(?:beta|rc)[0-9]{1,2})[^0-9.]`)

// identify finds a server's version in the bytes of its binary.
func identify(binary io.Reader) (*Server, error) {
	var s Server
	err := scan(binary, func(window []byte) bool {
		if m := versionText.FindSubmatch(window); m != nil && s.Major == 0 {
			s.Major, _ = strconv.Atoi(string(m[1])) // at most three digits
			s.Version = string(m[1]) + string(m[2])
		}
		// A server with ICU imports this function, whose name every ICU release suffixes with its
		// version.
		s.ICU = s.ICU || bytes.Contains(window, []byte("ucol_open"))
		// A server with TLS imports this function (be-secure-openssl.c).
		s.TLS = s.TLS || bytes.Contains(window, []byte("SSL_CTX_use_certificate_chain_file"))
		return s.Major != 0 && s.ICU && s.TLS
	})
	if err != nil {
		return nil, err
	}
	if s.Major == 0 {
		return nil, errors.New("it does not say which version of PostgreSQL it is")
	}
	return &s, nil
}

// overlap is how many bytes of a window are repeated at the start of the next. It is longer than
// any text that scan looks for.
const overlap = 256

// scan calls fn with overlapping windows of r until it returns true.
func scan(r io.Reader, fn func(window []byte) bool) error {
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		if fn(buf[:kept+n]) || err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(buf, buf[len(buf)-overlap:])
	}
}

// collation returns initdb's options for how text sorts.
func (s *Server) collation(choice string) ([]string, error) {
	locale := "und"
	if l, ok := recipe.Collation(choice).Locale(); ok {
		choice, locale = "icu", l
	}
	switch choice {
	case "auto":
		switch {
		case s.Major >= 17:
			choice = "builtin"
		case s.Major >= 15 && s.ICU:
			choice = "icu"
		default:
			choice = "libc"
		}
	case "builtin":
		if s.Major < 17 {
			return nil, fmt.Errorf("postgres.collation is builtin, which PostgreSQL has from version 17; this is %s", s.Version)
		}
	case "icu":
		if s.Major < 15 || !s.ICU {
			return nil, fmt.Errorf("postgres.collation is a locale of ICU, which needs PostgreSQL 15 or later built with ICU; this is %s%s",
				s.Version, map[bool]string{false: " without ICU"}[s.ICU])
		}
	}
	switch choice {
	case "builtin":
		return []string{"--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"}, nil
	case "icu":
		return []string{"--locale-provider=icu", "--icu-locale=" + locale, "--locale=C"}, nil
	}
	return []string{"--locale=C"}, nil
}
