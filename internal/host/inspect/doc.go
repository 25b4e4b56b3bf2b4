// Package inspect looks inside an artifact without mounting it: directories, files, packages and
// the file system itself of its root image, and the settings that the machine was built with. It
// returns what it finds, with the JSON that `sov inspect --json` prints. To find an artifact and to
// open its image is package built's.
package inspect
