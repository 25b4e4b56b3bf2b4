// Package apk reads and installs packages of Alpine's package manager, apk-tools 2.
//
// It covers what is needed to put packages into a file tree without running anything:
//
//   - [ReadIndex] reads a repository's APKINDEX.tar.gz and verifies its signature;
//   - [Solve] chooses the packages that satisfy a list of dependencies, making the choices apk
//     makes;
//   - [OpenPackage] takes a .apk file apart and verifies each part of it;
//   - [PlanInstall] works out what installing packages means for a tree that has an apk database:
//     which files each package contributes, and the database that apk in the finished system will
//     find;
//   - [Install] carries such a plan out on a tree.
//
// Maintainer scripts are never run. They are listed ([Control.Scripts]) and recorded in the
// database, as `apk add --no-scripts` does.
//
// Fetching, caching and the choice of repositories are left to the caller. The formats follow
// apk-package(5), apk-world(5) and the behaviour of apk-tools 2.14, which the tests run as the
// reference.
package apk
