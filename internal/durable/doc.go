// Package durable writes files atomically and durably, and locks files.
//
// [WriteFile], and [Create] for content that arrives in parts, write a temporary file, set its
// mode, sync it, rename it and sync the folder. After a power cut, a full disk or SIGKILL at any
// moment a reader finds the old file or the new one, never a part of one; when the call has
// returned, the reader finds the new one. A symbolic link at the path is replaced, not followed.
//
// The temporary file of a path DIR/NAME is DIR/.NAME.new-DIGITS. It carries a lock while its writer
// lives, so that the next writer of the same path, and [RemoveLeftovers], remove what killed
// writers left and nothing else.
//
// [TryLock] and [WaitLock] lock a file or a folder (flock(2)). [TryProcessLock] locks a file in a
// way that names the process that holds it (fcntl(2), F_SETLK). The kernel releases both when the
// process ends, however it ends.
package durable
