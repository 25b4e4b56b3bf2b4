// Package pipeline runs stages. A stage turns inputs into files. Its key is a hash of everything
// that decides its output; a stage runs only if the cache has no result under its key.
//
// A Stage says what it needs, adds to its Key, and writes its outputs through a Job. The Engine
// orders stages by their needs, runs up to Jobs stages in parallel, and stops all of them at the
// first error. A Cache keeps the results.
//
// A key covers the stage's name, what its Key method adds, and the digests of its inputs. It does
// not cover the keys of its inputs: a stage that runs again and writes the same bytes as before
// causes nothing else to run.
//
// A record in the cache is enough for a hit: its blobs may stay in a remote cache until a stage
// opens them. If no cache has a blob that a stage opens, the engine runs the stage that makes the
// blob, and then the stage that needed it again.
//
// Package store defines what is on the disk, when it is trusted, and how processes share it.
// Package remote has the caches on other computers, package progress the displays. Package pipeline
// does not know what is built.
package pipeline
