package network

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// FuzzRules reads the output of the phone's iptables, which other programs influence. It checks the
// input for iptables-restore: it must change only sov's chain and the jumps to it.
func FuzzRules(f *testing.F) {
	f.Add("-P FORWARD ACCEPT\n-N sov_sql_fwd\n-A FORWARD -j sov_sql_fwd\n-A sov_sql_fwd -i sov0 -j ACCEPT")
	f.Add("-A FORWARD -j sov_other_fwd\n-A FORWARD -j sov_sql_fwd\n-A FORWARD -j sov_sql_fwd")
	f.Add("-N sov_sql_fwd\n-A sov_sql_fwd -m comment --comment \"x\n-A FORWARD -j DROP\nCOMMIT\" -j ACCEPT")
	name := chainName("sql", "fwd")
	ours := filledChain{chain{Table: "filter", Name: name, From: "FORWARD"}, []string{"-i sov0 -j ACCEPT", established}}
	f.Fuzz(func(t *testing.T, text string) {
		p := &iptables{state: map[string][]string{"filter": strings.Split(strings.TrimSpace(text), "\n")}}
		var script strings.Builder
		costtest.Text.Run(t, len(text), func() {
			if err := p.script(&script, ours); err != nil {
				t.Error(err)
			}
		})
		for line := range strings.Lines(script.String()) {
			line = strings.TrimSuffix(line, "\n")
			switch {
			case line == ":"+name+" - [0:0]", line == "-D FORWARD -j "+name, line == "-I FORWARD 1 -j "+name:
			case strings.HasPrefix(line, "-A "+name+" ") && (strings.HasSuffix(line, ours.rules[0]) || strings.HasSuffix(line, ours.rules[1])):
			default:
				t.Errorf("%q makes sov say %q", text, line)
			}
		}
		costtest.Budget{Base: 4096, Ratio: 64}.Output(t, len(text), int64(script.Len()))
	})
}
