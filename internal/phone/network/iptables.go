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
	tableMangle = "mangle"

	chainPrefix = "sov_"
	// maxChain is the longest name of a chain: XT_EXTENSION_MAXNAMELEN less its end
	// (linux/netfilter/x_tables.h).
	maxChain = 28

	iptablesTimeout = 30 * time.Second
	// iptablesWait is how long, in seconds, iptables waits for the lock that netd may hold.
	iptablesWait = "20"
)

// chainName returns the name of the machine's chain for a purpose: sov_NAME_PURPOSE, with a digest
// in place of a long name.
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
	return slices.Contains([]string{"INPUT", "OUTPUT", "FORWARD", "POSTROUTING", "PREROUTING"}, name)
}

// iptables runs the phone's own iptables programs, which match the kernel's variant (legacy or
// nf_tables) and netd's lock.
type iptables struct {
	program string // iptables; iptables-restore is in the same folder
	state   map[string][]string
}

// rules returns a table's rules, a line each as iptables -S prints them. They are cached until the
// next change.
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

// has reports whether a table has a chain.
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

// fill sets the rules of chains in a table, each with one jump from its built-in chain, which only
// jumps to other machines' chains may precede. It returns the chains that it changed. It uses one
// transaction, so that packets never pass a partly filled chain, or one chain without the other.
func (p *iptables) fill(table string, chains []filledChain) (changed []filledChain, err error) {
	var script strings.Builder
	for _, c := range chains {
		if c.Table != table {
			continue
		}
		before := script.Len()
		if err := p.script(&script, c); err != nil {
			return nil, err
		}
		if script.Len() > before {
			changed = append(changed, c)
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return changed, p.restore("*" + table + "\n" + script.String() + "COMMIT\n")
}

// script writes the lines of iptables-restore that correct a chain, or nothing if it is correct.
func (p *iptables) script(w *strings.Builder, c filledChain) error {
	have, err := p.content(c.Table, c.Name)
	if err != nil {
		return err
	}
	jumps, err := p.jumps(c.Table, c.From, c.Name)
	if err != nil {
		return err
	}
	exists, err := p.has(c.Table, c.Name)
	if err != nil {
		return err
	}
	if !exists || !slices.EqualFunc(have, c.rules, sameRule) {
		fmt.Fprintf(w, ":%s - [0:0]\n", c.Name) // with --noflush: creates the chain or empties it
		for _, rule := range c.rules {
			fmt.Fprintf(w, "-A %s %s\n", c.Name, rule)
		}
	}
	if !jumps.inPlace() {
		for range jumps.count {
			fmt.Fprintf(w, "-D %s -j %s\n", c.From, c.Name)
		}
		fmt.Fprintf(w, "-I %s 1 -j %s\n", c.From, c.Name)
	}
	return nil
}

// jumps describes the jumps to a chain.
type jumps struct {
	count int
	first bool // only jumps to sov's chains precede one of them
}

func (j jumps) inPlace() bool { return j.count == 1 && j.first }

func (p *iptables) jumps(table, from, chain string) (jumps, error) {
	rules, err := p.content(table, from)
	var j jumps
	above := true // only sov's jumps so far
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

// sameRule compares two rules as sets of words: the variants of iptables print matches in different
// orders.
func sameRule(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
