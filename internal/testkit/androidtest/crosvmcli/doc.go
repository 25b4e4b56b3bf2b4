// Package crosvmcli is the command line of each release of Android's crosvm, for its simulation in
// tests: the flags of a release on an arm64 phone, the formats of their values, the help text, and
// the exit statuses of errors.
//
// The flags are in crosvm-flags.tsv, which was extracted from the argument structure at each of
// AOSP's tags. The rest is from crosvm's own sources: src/main.rs (words before the flags, exit
// statuses), src/crosvm/cmdline.rs and config.rs (values, what contradicts itself), serde_keyvalue
// (KEY=VALUE lists). Values of flags that neither tests nor sov use, such as --gpu, are not
// checked.
package crosvmcli
