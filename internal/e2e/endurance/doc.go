// Package endurance repeats tests with random faults many times (power cuts, kills, cut cables),
// and compiles everything twice. `make endurance` runs it; `make test` tests each of these
// behaviours once. Every count is multiplied by $SOV_ENDURANCE, a number such as 0.1 or 10.
package endurance
