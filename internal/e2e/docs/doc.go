// Package docs runs the commands of README.md, CONTRIBUTING.md, docs and examples, in their order,
// with the sov program.
//
// A block of commands is a fenced or an indented code block. The comment before it says where its
// commands run:
//
//	<!-- run: NEED, NEED; except TEXT: REASON; status N/N: TEXT -->
//	<!-- not run: REASON -->
//	<!-- text -->
//
// "run" runs the block's commands one after another in a folder that all blocks of a document
// share. NEED is what must be there, one of needs. A command that contains the TEXT of an except is
// not run, for the REASON. One that contains the TEXT of a status is expected to end with one of
// its exit statuses instead of 0. Commands of sov that are not run must at least have flags that
// sov knows. "text" marks a drawing, a message or a file: nothing in it is a command. A fenced
// block whose info string names another language than a shell's is text, too.
//
// In a block that begins with "$ ", lines that do not are what the command before them prints.
// Numbers in it that differ from run to run (times, sizes, ports, digests, process IDs, versions)
// are not compared, and a line "…" stands for any lines.
package docs
