// Package docs runs the commands of README.md, CONTRIBUTING.md, docs and examples, in their order,
// with the sov program.
//
// A code block is fenced or indented. The comment before it states where its commands run:
//
//	<!-- run: NEED, NEED; except TEXT: REASON; status N/N: TEXT -->
//	<!-- not run: REASON -->
//	<!-- text -->
//
// "run" runs the block's commands one after another in a folder that all blocks of a document
// share. NEED names what a block requires, a key of needs. A command that contains the TEXT of an
// except does not run, for the REASON. A command that contains the TEXT of a status must end with
// one of its exit statuses instead of 0. sov must accept the flags of its commands that do not run.
// "text" marks a drawing, a message or a file, which contains no commands. So does a fenced block
// in a language other than a shell's.
//
// A block that begins with "$ " is a transcript: its other lines are the output of the command
// before them. Numbers that differ between runs (times, sizes, ports, digests, process IDs,
// versions) are not compared. A line "…" matches any lines.
package docs
