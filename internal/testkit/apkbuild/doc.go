// Package apkbuild writes Alpine packages and package indexes: the `.apk` files of apk-tools 2 and
// the APKINDEX.tar.gz of a repository, signed with RSA as by abuild-sign.
//
// The same input and key result in the same bytes. The mirror and tests use the package to make
// repositories.
//
// An .apk file is a sequence of three gzip streams, each a tar:
//
//	signature   .SIGN.RSA.<key name> or .SIGN.RSA256.<key name>, over the
//	            compressed bytes of the control stream; no end-of-archive
//	control     .PKGINFO and scripts; no end-of-archive; its SHA-1 is the
//	            package's identity ("C:Q1..." in the index)
//	data        the files; its SHA-256 is the control stream's datahash
//
// An index consists of a signature stream and a stream with DESCRIPTION and APKINDEX. Alpine's wiki
// describes the formats ("Apk spec"). The reference is apk-tools 2.14: src/package.c, src/archive.c
// and src/database.c.
package apkbuild
