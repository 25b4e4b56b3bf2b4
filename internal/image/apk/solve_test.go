package apk

import (
	"errors"
	"strings"
	"testing"
)

// solveCases are small repositories, each for one rule. A line "--" begins another repository.
// Packages before a line "==" are installed. TestSolveCasesAgainstAPK compares all of them with
// apk.
var solveCases = []struct {
	name, world, packages string
	want                  string // changes in order, separated by "; ", or "impossible"
}{
	{"highest version", "a", "a-1.0\na-1.10\na-1.9\na-1.10_rc1", "Installing a 1.10"},
	{"version bounds", "a<1.10 b>=2 c~1.2", "a-1.9\na-1.10\nb-1\nb-2\nb-3\nc-1.1\nc-1.2.5\nc-1.20\nc-1.3", "Installing a 1.9; Installing b 3; Installing c 1.2.5"},
	{"dependencies first", "a", "a-1 D:b c\nb-1 D:d\nc-1 D:d\nd-1", "Installing d 1; Installing b 1; Installing c 1; Installing a 1"},
	{"shared object", "app", "app-1 D:so:libx.so.2\nlibx-2 p:so:libx.so.2=2.0\nlibx-1 p:so:libx.so.1=1.0", "Installing libx 2; Installing app 1"},
	{"command and pkg-config names", "app", "app-1 D:cmd:tool pc:lib>=2\ntool-1 p:cmd:tool=1\nlib-dev-1 p:pc:lib=2.1", "Installing tool 1; Installing lib-dev 1; Installing app 1"},
	{"provider priority", "app", "app-1 D:mta\nsmall-1 p:mta; k:10\nbig-1 p:mta; k:20", "Installing big 1; Installing app 1"},
	{"virtual name without priority needs a choice", "app", "app-1 D:mta\nsmall-1 p:mta\nbig-1 p:mta", "impossible"},
	{"virtual name chosen by name", "app small", "app-1 D:mta\nsmall-1 p:mta\nbig-1 p:mta", "Installing small 1; Installing app 1"},
	{"virtual names coexist", "x y", "x-1 p:mta\ny-1 p:mta", "Installing x 1; Installing y 1"},
	{"versioned names do not coexist", "x y", "x-1 p:mta=1\ny-1 p:mta=1", "impossible"},
	{"highest provided version", "app", "app-1 D:so:l\nx-9 p:so:l=1\ny-1 p:so:l=2", "Installing y 1; Installing app 1"},
	{"a package without version does not meet a bound", "app", "app-1 D:mta>1\nx-1 p:mta; k:1", "impossible"},
	{"no way back from the highest version", "a b", "a-2 D:!b\na-1\nb-1", "impossible"},
	{"conflict in world", "a !b", "a-1 D:c\nb-1 p:c=2\nd-1 p:c=1", "Installing d 1; Installing a 1"},
	{"conflicting versions", "a b", "a-1 D:l=1\nb-1 D:l=2\nl-1\nl-2", "impossible"},
	{"cycle", "a", "a-1 D:b\nb-1 D:c\nc-1 D:a", "Installing c 1; Installing b 1; Installing a 1"},
	{"install_if", "a b", "a-1\nb-1\nab-1 i:a b\nac-1 i:a c", "Installing a 1; Installing b 1; Installing ab 1"},
	{"install_if cascades", "a", "a-1\nb-1 i:a\nc-1 i:b\nd-1 i:c x", "Installing a 1; Installing b 1; Installing c 1"},
	{"install_if with a version", "a", "a-1\nb-1 i:a=1\nc-1 i:a=2", "Installing a 1; Installing b 1"},
	{"install_if on a provided name", "a", "a-1 p:so:x=1\nb-1 i:so:x", "Installing a 1; Installing b 1"},
	{"first repository wins a tie", "a", "a-1 D:x\n--\na-1 D:y\n--\nx-1\ny-1", "Installing x 1; Installing a 1"},
	{"higher version in a later repository", "a", "a-1\n--\na-2", "Installing a 2"},
	{"installed packages stay", "a", "a-1\n==\na-1\na-2", ""},
	{"installed package is upgraded if needed", "a b", "a-1\n==\na-2\nb-1 D:a>1", "Upgrading a 1 -> 2; Installing b 1"},
	{"what nothing needs goes", "a", "a-1 D:b\nb-1\nc-1\n==\nc-2", "Purging c 1"},
	{"replacement under another name", "a", "a-1 D:l\nl-1\n==\na-2 D:l\nm-1 p:l=3\nb-1", ""},
	{"nothing", "", "a-1", ""},
	{"unknown", "b", "a-1", "impossible"},
}

func TestSolve(t *testing.T) {
	for _, tc := range solveCases {
		t.Run(tc.name, func(t *testing.T) {
			got := "impossible"
			if s, err := Solve(parseCase(t, tc.world, tc.packages)); err == nil {
				got = strings.ReplaceAll(report(s), "\n", "; ")
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestSolveCasesAgainstAPK(t *testing.T) {
	o := newOracle(t)
	for _, tc := range solveCases {
		t.Run(tc.name, func(t *testing.T) {
			req := parseCase(t, tc.world, tc.packages)
			var repos [][]*Package
			for _, r := range req.Repositories {
				repos = append(repos, r.Index.Packages)
			}
			got, err := o.simulate(t, req.Installed, tc.world, repos...)
			if err != nil {
				got = "impossible"
			}
			if got = strings.ReplaceAll(got, "\n", "; "); got != tc.want {
				t.Errorf("apk: %s\nwant %s", got, tc.want)
			}
		})
	}
}

func parseCase(t testing.TB, world, text string) Request {
	t.Helper()
	deps, err := ParseDeps(world)
	if err != nil {
		t.Fatal(err)
	}
	req := Request{World: deps}
	var current []*Package
	flush := func() {
		req.Repositories = append(req.Repositories, &Repository{URL: "test", Index: &Index{Packages: current}})
		current = nil
	}
	for line := range strings.Lines(text) {
		switch line = strings.TrimSpace(line); line {
		case "":
		case "--":
			flush()
		case "==":
			req.Installed, current = current, nil
		default:
			current = append(current, testPackage(t, line))
		}
	}
	flush()
	return req
}

func TestTaggedRepository(t *testing.T) {
	main := &Repository{Index: &Index{Packages: testPackages(t, "a-1", "b-1")}}
	edge := &Repository{Tag: "edge", Index: &Index{Packages: testPackages(t, "a-2 D:c", "b-2", "c-1")}}
	for _, tc := range []struct{ world, want string }{
		{"a b", "Installing a 1\nInstalling b 1"},
		{"a@edge b", "Installing c 1\nInstalling a 2\nInstalling b 1"},
	} {
		world, err := ParseDeps(tc.world)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Solve(Request{World: world, Repositories: []*Repository{main, edge}})
		if err != nil {
			t.Fatalf("%s: %v", tc.world, err)
		}
		if got := report(s); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.world, got, tc.want)
		}
	}
}

func TestUnsatisfiable(t *testing.T) {
	for _, tc := range []struct{ world, packages, want string }{
		{"postgresl", "postgresql-17", "the list of packages to install requires postgresl, which no repository has; names like it: postgresql"},
		{"zzz", "a-1", "the list of packages to install requires zzz, which no repository has"},
		{"a", "a-1 D:so:libz.so.1", "package a-1 requires so:libz.so.1, which no repository has"},
		{"a", "a-1 D:l>=2\nl-1\nl-1.1", "package a-1 requires l>=2, but only l-1 and l-1.1 are available"},
		{"a b", "a-1 D:l=1\nb-1 D:l=2\nl-1\nl-2", "package a-1 requires l=1 while package b-1 requires l=2; l-1 and l-2 are available"},
		{"a b", "a-1 D:!b\nb-1", "package a-1 cannot be together with b-1 (it says !b), which the list of packages to install requires"},
		{"x y", "x-1 p:mta=1\ny-1 p:mta=1", "packages x-1, which the list of packages to install requires, and y-1, which the list of packages to install requires, both provide mta and cannot be together"},
		{"mta", "x-1 p:mta\ny-1 p:mta", "the list of packages to install requires mta, which is a virtual name with several packages behind it; ask for one of them: x, y"},
	} {
		_, err := Solve(parseCase(t, tc.world, tc.packages))
		var unsat *Unsatisfiable
		if !errors.As(err, &unsat) {
			t.Errorf("%s: error %v, want *Unsatisfiable", tc.world, err)
			continue
		}
		if got := err.Error(); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.world, got, tc.want)
		}
	}
}
