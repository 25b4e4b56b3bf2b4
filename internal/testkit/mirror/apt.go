package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/arch"
)

// wanted lists the Debian packages that the repository offers. Their dependencies are added.
// "postgresql" depends on the release's version.
var wanted = []string{"postgresql", "e2fsprogs", "cryptsetup-bin", "ca-certificates", "tzdata", "busybox-static"}

var (
	// serverPackage matches the server and the client of one major version of PostgreSQL.
	serverPackage = regexp.MustCompile(`^postgresql-(client-)?[0-9]+$`)
	// extensionPackage matches an extension for the server of one major version.
	extensionPackage = regexp.MustCompile(`^postgresql-([0-9]+)-(.+)$`)
	// libraryPackage matches packages of shared libraries: Debian's policy, section 8.1, and a few
	// older names.
	libraryPackage = regexp.MustCompile(`^(lib|zlib)`)
	// noLibrary matches packages whose names begin with lib but that nothing here links to, some of
	// them large. The exception is LLVM: see leaveOut about just-in-time compilation.
	noLibrary = regexp.MustCompile(`-perl$|^libperl|^libllvm|^libz3|^libpam-(modules|runtime)|-common$|-l10n$|-modules-db$`)
)

// ErrUnavailable is wrapped by errors about Debian's packages that are neither cached nor
// available.
var ErrUnavailable = errors.New("packages of Debian are not available here")

// adviceOnSources is the advice in errors about packages that apt cannot fetch.
const adviceOnSources = "check that this computer reaches the Debian mirrors in /etc/apt/sources.list*, by the proxy in /etc/apt/apt.conf.d if there is one, and that the disk is not full"

// An aptState is a folder for apt with separate lists, cache and status, and an architecture that
// may differ from the host's. apt reads the host's sources, keys and proxy settings, and writes
// only to the folder.
type aptState struct {
	dir     string
	arch    arch.Arch
	release string // of Debian, such as "trixie"; empty: the host's sources as they are
}

// fetchDebs downloads every package that may be repackaged to the folder to. apt verifies them.
func fetchDebs(ctx context.Context, state aptState, added []string, to string, log func(string, ...any)) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w: this computer has no apt-get, by which they are fetched and verified; run this on Debian, or copy the cache folder of a computer that has run it", ErrUnavailable)
	}
	if err := state.prepare(ctx); err != nil {
		return err
	}
	log("%s: reading Debian's package lists", state.arch.Go)
	// A source of the host that does not answer is an error only if packages are missing: the
	// source may not be Debian's.
	_, updateErr := state.run(ctx, "", "apt-get", "update", "--quiet", "--option", "APT::Update::Error-Mode=any")
	if ctx.Err() != nil {
		return updateErr
	}
	names, err := state.closure(ctx, added)
	if err != nil {
		return fmt.Errorf("%w: %w\n%s", ErrUnavailable, cmp.Or(updateErr, err), adviceOnSources)
	}
	log("%s: downloading %d Debian packages", state.arch.Go, len(names))
	if _, err = state.run(ctx, to, "apt-get", append([]string{"download", "--quiet"}, names...)...); err != nil {
		return fmt.Errorf("%w: %w\n%s", ErrUnavailable, err, adviceOnSources)
	}
	return nil
}

// prepare creates the state's folders and its configuration.
func (s aptState) prepare(ctx context.Context) error {
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "none"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			return fmt.Errorf("prepare apt's state folder: %w", err)
		}
	}
	config, err := s.config(ctx)
	if err != nil {
		return err
	}
	files := map[string][]byte{"status": nil, "apt.conf": config}
	if s.release != "" {
		source, err := debianSource("/etc/apt")
		if err != nil {
			return err
		}
		files["sources.list"] = []byte(source.of(s.release))
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o644); err != nil {
			return fmt.Errorf("prepare apt's state folder: %w", err)
		}
	}
	return nil
}

// config returns the apt.conf of the state. It takes only the network settings from the host's
// configuration, which may run programs after apt (in Docker's images, to empty the host's cache).
func (s aptState) config(ctx context.Context) ([]byte, error) {
	host, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output()
	if err != nil {
		return nil, fmt.Errorf("read apt's network settings: apt-config dump: %w", err)
	}
	var buf bytes.Buffer
	for line := range strings.Lines(string(host)) {
		for _, network := range []string{"http", "Retries", "ForceIPv", "Check-Valid-Until", "Check-Date"} {
			if strings.HasPrefix(line, "Acquire::"+network) {
				buf.WriteString(line)
			}
		}
	}
	inState := func(name string) string { return filepath.Join(s.dir, name) }
	if s.release != "" {
		fmt.Fprintf(&buf, "Dir::Etc::sourcelist %q;\nDir::Etc::sourceparts %q;\n", inState("sources.list"), inState("none"))
	}
	for _, setting := range [][2]string{
		{"APT::Architecture", s.arch.Debian},
		{"APT::Architectures", s.arch.Debian},
		{"APT::Sandbox::User", "root"}, // _apt cannot write below a private folder
		{"Acquire::Languages", "none"},
		{"Dir::State", s.dir},
		{"Dir::State::lists", inState("lists")},
		{"Dir::State::status", inState("status")},
		{"Dir::Cache", inState("cache")},
		{"Dir::Etc::main", inState("none/apt.conf")},
		{"Dir::Etc::parts", inState("none")},
		{"Dir::Etc::preferences", inState("none/preferences")},
		{"Dir::Etc::preferencesparts", inState("none")},
	} {
		fmt.Fprintf(&buf, "%s %q;\n", setting[0], setting[1])
	}
	return buf.Bytes(), nil
}

// run runs an apt program with the state and returns its output.
func (s aptState) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second // for apt's transports after a kill
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(s.dir, "apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("%s %s for %s: %w\n%s", name, args[0], s.arch.Debian, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// closure returns the names of the packages to download: the wanted packages, and the libraries
// among all packages that apt would install with them.
func (s aptState) closure(ctx context.Context, added []string) ([]string, error) {
	args := slices.Concat([]string{"install", "--print-uris", "--yes", "--quiet=2", "--no-install-recommends"}, wanted, added)
	uris, err := s.run(ctx, "", "apt-get", args...)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(uris) {
		// A line is 'URI' FILE SIZE CHECKSUM, and the file is NAME_VERSION_ARCH.deb.
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasPrefix(line, "'") {
			continue
		}
		name, _, _ := strings.Cut(fields[1], "_")
		library := libraryPackage.MatchString(name) && !noLibrary.MatchString(name)
		if library || name == "libc-bin" || serverPackage.MatchString(name) || slices.Contains(wanted[1:], name) || slices.Contains(added, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range added {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("find %s for %s: apt would install something else in its place: name that", name, s.arch.Debian)
		}
	}
	if !slices.ContainsFunc(names, serverPackage.MatchString) {
		return nil, fmt.Errorf("find Debian's PostgreSQL for %s: apt lists no server among what \"postgresql\" needs; are Debian's own sources in /etc/apt?", s.arch.Debian)
	}
	return names, nil
}
