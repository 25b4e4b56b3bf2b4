// Package crosvmcli implements the command line of each release of Android's crosvm, for its
// simulation in tests: the flags of a release on an arm64 phone, the formats of their values, the
// help text, and the exit statuses of errors.
//
// crosvm-flags.tsv lists the flags, extracted from the argument structure at each of AOSP's tags.
// The rest follows crosvm's sources: src/main.rs (arguments before the flags, exit statuses),
// src/crosvm/cmdline.rs and config.rs (values, contradictions), and serde_keyvalue (KEY=VALUE
// lists). Values of flags that neither tests nor sov use, such as --gpu, are not checked.
package crosvmcli
