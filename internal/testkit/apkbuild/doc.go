// Package apkbuild writes Alpine packages and package indexes: the `.apk`
// files of apk-tools 2 and the APKINDEX.tar.gz of a repository, signed with
// RSA as abuild-sign signs them.
//
// The same input and key give the same bytes. It makes repositories for the mirror and for tests.
//
// An .apk file is three gzip streams one after the other, each a tar:
//
//	signature   .SIGN.RSA.<key name> or .SIGN.RSA256.<key name>, over the
//	            compressed bytes of the control stream; no end-of-archive
//	control     .PKGINFO and scripts; no end-of-archive; its SHA-1 is the
//	            package's identity ("C:Q1..." in the index)
//	data        the files; its SHA-256 is the control stream's datahash
//
// An index has a signature stream and one with DESCRIPTION and APKINDEX.
// The formats are described in Alpine's wiki ("Apk spec") and decided by
// apk-tools 2.14's src/package.c, src/archive.c and src/database.c.
package apkbuild
