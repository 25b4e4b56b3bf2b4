package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	tableFilter = "filter"
	tableNAT    = "nat"

	chainPrefix = "sov_"
	// maxChain is the longest name of a chain: XT_EXTENSION_MAXNAMELEN less its end (linux/netfilter/x_tables.h).
	maxChain = 28

	iptablesTimeout = 30 * time.Second
	// iptablesWait is how long, in seconds, iptables waits for the lock that netd may hold.
	iptablesWait = "20"
)

// chainName is the machine's chain for a purpose: sov_NAME_PURPOSE, or a digest in place of a long name.
func chainName(vm, purpose string) string {
	name := chainPrefix + vm + "_" + purpose
	if len(name) > maxChain {
		sum := sha256.Sum256([]byte(vm))
		name = chainPrefix + hex.EncodeToString(sum[:8]) + "_" + purpose
	}
	return name
}

func isOurChain(name string) bool {
	return strings.HasPrefix(name, chainPrefix) && len(name) <= maxChain && !strings.ContainsAny(name, " \n\t")
}

func isBuiltIn(name string) bool {
	return slices.Contains([]string{"FORWARD", "POSTROUTING", "PREROUTING"}, name)
}

// iptables speaks with the phone's own iptables programs, which know the flavour that its kernel has and the lock
// that Android's netd takes.
type iptables struct {
	program string // iptables; iptables-restore is its neighbour
	state   map[string][]string
}

// rules returns a table's rules, a line each as iptables -S prints them, read once until the next change.
func (p *iptables) rules(table string) ([]string, error) {
	if lines, ok := p.state[table]; ok {
		return lines, nil
	}
	out, err := p.run(nil, p.program, "-w", iptablesWait, "-t", table, "-S")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	p.state[table] = lines
	return lines, nil
}

func (p *iptables) forget() { p.state = map[string][]string{} }

// has tells whether a table has a chain.
func (p *iptables) has(table, chain string) (bool, error) {
	rules, err := p.rules(table)
	return slices.Contains(rules, "-N "+chain), err
}

// content returns the rules of a chain.
func (p *iptables) content(table, chain string) ([]string, error) {
	rules, err := p.rules(table)
	var out []string
	for _, line := range rules {
		if rest, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			out = append(out, rest)
		}
	}
	return out, err
}

// fill makes a chain hold exactly these rules, with one jump to it from the built-in chain, no deeper than after the
// jumps to chains of other machines. One transaction: no packet meets a chain half-filled.
func (p *iptables) fill(table, from, chain string, want []string) (changed bool, err error) {
	have, err := p.content(table, chain)
	if err != nil {
		return false, err
	}
	jumps, err := p.jumps(table, from, chain)
	if err != nil {
		return false, err
	}
	exists, err := p.has(table, chain)
	if err != nil {
		return false, err
	}
	full := slices.EqualFunc(have, want, sameRule)
	if exists && full && jumps.inPlace() {
		return false, nil
	}
	var script strings.Builder
	fmt.Fprintf(&script, "*%s\n", table)
	if !exists || !full {
		fmt.Fprintf(&script, ":%s - [0:0]\n", chain) // with --noflush: makes it, or empties this one
		for _, rule := range want {
			fmt.Fprintf(&script, "-A %s %s\n", chain, rule)
		}
	}
	if !jumps.inPlace() {
		for range jumps.count {
			fmt.Fprintf(&script, "-D %s -j %s\n", from, chain)
		}
		fmt.Fprintf(&script, "-I %s 1 -j %s\n", from, chain)
	}
	script.WriteString("COMMIT\n")
	return true, p.restore(script.String())
}

// jumps tells where the jumps to a chain stand.
type jumps struct {
	count int
	first bool // one stands above all rules but jumps to chains of ours
}

func (j jumps) inPlace() bool { return j.count == 1 && j.first }

func (p *iptables) jumps(table, from, chain string) (jumps, error) {
	rules, err := p.content(table, from)
	var j jumps
	above := true // nothing but jumps of ours so far
	for _, rule := range rules {
		target, plain := strings.CutPrefix(rule, "-j ")
		if plain && target == chain {
			j.count++
			j.first = j.first || above
		}
		above = above && plain && isOurChain(target)
	}
	return j, err
}

// drop removes a chain and the jumps to it.
func (p *iptables) drop(table, from, chain string) error {
	exists, err := p.has(table, chain)
	if err != nil || !exists {
		return err
	}
	j, err := p.jumps(table, from, chain)
	if err != nil {
		return err
	}
	script := "*" + table + "\n" + strings.Repeat(fmt.Sprintf("-D %s -j %s\n", from, chain), j.count) +
		fmt.Sprintf("-F %[1]s\n-X %[1]s\nCOMMIT\n", chain)
	return p.restore(script)
}

func (p *iptables) restore(script string) error {
	p.forget()
	_, err := p.run([]byte(script), p.program+"-restore", "-w", iptablesWait, "--noflush")
	return err
}

func (p *iptables) run(stdin []byte, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), iptablesTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.WaitDelay = time.Second
	command.Stdin = bytes.NewReader(stdin)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// sameRule compares two rules as sets of words: the flavours of iptables print matches in orders of their own.
func sameRule(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
