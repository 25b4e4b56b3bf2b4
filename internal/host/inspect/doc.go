// Package inspect reads an artifact without mounting it: directories, files, packages and the
// superblock of its root image, and the settings that the machine was built with. Its types have
// the JSON form of `sov inspect --json`. Package built finds artifacts and opens images.
package inspect
