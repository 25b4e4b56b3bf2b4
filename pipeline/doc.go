// Package pipeline runs stages: steps that turn inputs into files, are named by a key made of
// everything that decides their output, and run only when no earlier run left a result under that
// key.
//
// A Stage says what it needs, adds to its Key, and writes its outputs through a Job. The Engine
// orders stages by what they need, runs them side by side as far as inputs and Jobs allow, and
// stops all of them at the first error. A Cache keeps the results.
//
// A key covers the stage's name, what its Key method adds, and the digests of its inputs. It does
// not cover the keys of its inputs: a stage that runs again and writes the same bytes as before
// causes nothing else to run.
//
// A record in the cache is enough for a hit: its blobs may be elsewhere until a stage opens them.
// If a blob is nowhere then, the stage that made it runs after all, and after it the stage that
// needed it.
//
// What is on the disk, when it is trusted, and how processes share it is the subject of package
// store; caches beyond this computer of package remote; displays of package progress. The package
// does not know what is built.
package pipeline
