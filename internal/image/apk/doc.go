// Package apk reads and installs packages of Alpine's package manager, apk-tools 2.
//
// It installs packages into a file tree without running programs:
//
//   - [ReadIndex] reads a repository's APKINDEX.tar.gz and verifies its signature;
//   - [Solve] chooses the packages that satisfy a list of dependencies, the same ones as apk;
//   - [OpenPackage] splits a .apk file into its parts and verifies each of them;
//   - [PlanInstall] computes the effect of installing packages into a tree with an apk database:
//     the files of each package, and the new database;
//   - [Install] applies such a plan to a tree.
//
// Maintainer scripts are never run. They are listed ([Control.Scripts]) and recorded in the
// database, as with `apk add --no-scripts`.
//
// The caller fetches and caches files and chooses repositories. The formats follow apk-package(5),
// apk-world(5) and the behaviour of apk-tools 2.14, which the tests run as the reference.
package apk
