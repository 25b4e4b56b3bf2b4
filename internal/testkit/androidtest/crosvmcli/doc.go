// Package crosvmcli is the command line of Android's crosvm, release by release, as the stand-in
// for it in tests speaks it: which flags a release has on an arm64 phone, what their values look
// like, what it prints as help, and with which exit status it refuses what.
//
// The flags come from crosvm-flags.tsv, which was read from the argument structure at each of
// AOSP's tags. The rest is from crosvm's own sources: src/main.rs (words before the flags, exit
// statuses), src/crosvm/cmdline.rs and config.rs (values, what contradicts itself), serde_keyvalue
// (KEY=VALUE lists). Values of types that no test and no machine of ours uses, such as --gpu, are
// not looked into.
package crosvmcli
