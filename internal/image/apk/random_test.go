package apk

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

// randomCase is a small repository with every kind of relation between its packages, and a world
// that requires some of them.
type randomCase struct {
	installed, packages []*Package
	world               string
}

func randomRepository(t testing.TB, seed uint64) randomCase {
	r := rand.New(rand.NewPCG(seed, 1))
	names := strings.Fields("a b c d e f g h i j")[:4+r.IntN(7)]
	virtual := strings.Fields("so:x so:y cmd:z virt")
	versions := strings.Fields("1 1.1 2 2.0_rc1-r0 3-r1")
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	chance := func(percent int) bool { return r.IntN(100) < percent }
	dep := func(versioned int) string {
		n := pick(names)
		if chance(20) {
			n = pick(virtual)
		}
		if chance(versioned) {
			n += pick([]string{"=", "<", ">", "<=", ">=", ">=", "~"}) + pick(versions)
		}
		return n
	}
	// Some packages provide each virtual name, so that dependencies on it can be met.
	provides := map[string][]string{}
	for _, v := range virtual {
		for range 1 + r.IntN(2) {
			n := pick(names)
			field := "p:" + v
			if chance(60) {
				field += "=" + pick(versions)
			}
			provides[n] = append(provides[n], field)
		}
	}
	var lines []string
	for _, n := range names {
		chosen := slices.Clone(versions)
		r.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
		for _, v := range chosen[:1+r.IntN(3)] {
			fields := slices.Clone(provides[n])
			for range r.IntN(3) {
				fields = append(fields, "D:"+dep(20))
			}
			if chance(8) {
				fields = append(fields, "D:!"+otherThan(n, provides[n], dep(40)))
			}
			if chance(40) {
				fields = append(fields, fmt.Sprintf("k:%d", 1+r.IntN(3)))
			}
			if chance(4) {
				fields = append(fields, "p:"+pick(names)+"="+pick(versions))
				fields = slices.DeleteFunc(fields, func(f string) bool { return strings.HasPrefix(f, "D:!") })
			}
			if chance(15) {
				fields = append(fields, "i:"+dep(20)+" "+dep(0))
			}
			lines = append(lines, n+"-"+v+" "+strings.Join(fields, "; "))
		}
	}
	c := randomCase{packages: testPackages(t, lines...)}
	makeWorld := func() string {
		var world []string
		for range 1 + r.IntN(3) {
			d := dep(15)
			if !slices.ContainsFunc(world, func(w string) bool { return bareName(w) == bareName(d) }) {
				world = append(world, d)
			}
		}
		if chance(5) {
			world = append(world, "!"+pick(names))
		}
		return strings.Join(world, " ")
	}
	// The packages of another world may be installed already. Some of them are no longer in the
	// repository.
	if chance(40) {
		before, err := ParseDeps(makeWorld())
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Solve(Request{World: before, Repositories: []*Repository{{Index: &Index{Packages: c.packages}}}}); err == nil {
			c.installed = s.Packages
			c.packages = slices.DeleteFunc(c.packages, func(p *Package) bool { return slices.Contains(c.installed, p) && chance(30) })
		}
	}
	c.world = makeWorld()
	return c
}

func bareName(dep string) string {
	return strings.FieldsFunc(dep, func(c rune) bool { return strings.ContainsRune("<>=~", c) })[0]
}

// otherThan returns dep unless it names the package n itself, or a name that n provides. apk 2.14.4
// applies "!x" also to packages that provide x; Solve and later versions do not.
func otherThan(n string, provides []string, dep string) string {
	if bareName(dep) == n || slices.ContainsFunc(provides, func(p string) bool { return bareName(p) == "p:"+bareName(dep) }) {
		return "none"
	}
	return dep
}

// TestSolveRandom compares Solve with apk on generated repositories. Both must install and upgrade
// the same packages in the same order, or refuse. With other seeds about two repositories in a
// thousand differ: apk breaks a tie by the order of its hash tables.
func TestSolveRandom(t *testing.T) {
	o := newOracle(t)
	count := repeat.Times(t, 100, 300)
	refused := 0
	for seed := range uint64(count) {
		c := randomRepository(t, seed)
		want, err := o.simulate(t, c.installed, c.world, c.packages)
		if err != nil {
			refused++
			if !strings.Contains(want, "unable to select packages") {
				t.Fatalf("seed %d: apk: %v: %s", seed, err, want)
			}
		}
		world, err2 := ParseDeps(c.world)
		if err2 != nil {
			t.Fatal(err2)
		}
		s, err2 := Solve(Request{World: world, Installed: c.installed, Repositories: []*Repository{{Index: &Index{Packages: c.packages}}}})
		if (err != nil) != (err2 != nil) {
			t.Errorf("seed %d: apk: %v, Solve: %v\n%s", seed, want, err2, describe(c))
			continue
		}
		if err == nil && purgesFirst(report(s)) != purgesFirst(want) {
			t.Errorf("seed %d: got\n%s\nwant\n%s\n%s", seed, report(s), want, describe(c))
		}
	}
	t.Logf("%d repositories, %d of them refused by both", count, refused)
}

func describe(c randomCase) string {
	var b strings.Builder
	fmt.Fprintf(&b, "world: %s\n", c.world)
	for i, list := range [][]*Package{c.installed, c.packages} {
		for _, p := range list {
			fmt.Fprintf(&b, "%s %s D:%s p:%s i:%s k:%d\n", []string{"installed", "available"}[i], p.ID(),
				formatDeps(p.Depends), formatDeps(p.Provides), formatDeps(p.InstallIf), p.ProviderPriority)
		}
	}
	return b.String()
}

// purgesFirst moves removals to the front and sorts them: Solution lists them separately.
func purgesFirst(report string) string {
	var purges, others []string
	for line := range strings.SplitSeq(report, "\n") {
		if strings.HasPrefix(line, "Purging ") {
			purges = append(purges, line)
		} else {
			others = append(others, line)
		}
	}
	slices.Sort(purges)
	return strings.Join(append(purges, others...), "\n")
}
