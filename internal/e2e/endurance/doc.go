// Package endurance tests what is under chance, again and again: power cuts, kills, cut cables; and
// compiles everything twice. It is no part of `make test`, which tests each of these behaviours
// once, but of `make endurance`. Every count is multiplied by $SOV_ENDURANCE, a number such as 0.1
// or 10.
package endurance
