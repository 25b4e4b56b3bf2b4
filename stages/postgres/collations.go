package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"regexp"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/guestinit"
)

// sorting matches the files that decide how text sorts: ICU's code and data, and glibc. Every
// version of musl compares bytes.
var sorting = regexp.MustCompile(`^(libicu(i18n|uc|data)\.so\.[0-9.]+|icudt[0-9]+[a-z]\.dat|libc\.so\.6)$`)

// sortingOf returns a digest of the image's libraries that sort text. It changes if one of them
// changes.
func sortingOf(t *tree.Tree) (string, error) {
	sum := sha256.New()
	err := t.Walk(func(p string, n *tree.Inode) error {
		if !n.IsRegular() || !sorting.MatchString(path.Base(p)) {
			return nil
		}
		fmt.Fprintf(sum, "%s %d\n", path.Base(p), n.Content.Size)
		_, err := io.Copy(sum, n.Content.Open())
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:16]), err
}

// collationStep returns the step that rebuilds the indexes of a cluster that was made with other
// libraries.
func collationStep(server *Server, p recipe.Postgres) guestspec.Step {
	command := []string{guestinit.ProgramPath, "postgres-collations", "--user=" + p.User, "--data=" + p.Data, "--bin=" + server.Dir,
		"--config=" + configFile, "--image=" + server.Sorting}
	if server.Old != nil {
		command = append(command, "--old-bin="+server.Old.Dir)
	}
	return guestspec.Step{
		Command: command, User: "root", Unconfined: true, Timeout: guestspec.Duration(24 * time.Hour),
	}
}
