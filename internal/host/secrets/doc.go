// Package secrets stores the secrets of machines, such as passwords and auth keys, on the user's
// computer.
//
// A store is a folder that only its owner can read:
//
//	VM/NAME            one secret: its bytes as they are, or an age file of them
//	recipients.txt     age recipients, one a line: whom secrets are encrypted to; absent: they are plain
//	identity.age       an age identity that a passphrase opens
//
// Folders have mode 0700 and files 0600; a file that others can read, or that belongs to another
// user, is rejected. An encrypted secret is recognised by its first bytes (age-encryption.org/v1),
// so that it has the same file name as a plain one and is encrypted by an atomic rename.
//
// A passphrase encrypts an age identity of the store, and secrets are encrypted to that identity:
// so a secret can be set without the passphrase, and one passphrase decrypts them all. The age
// program can decrypt all of these files.
//
// No error of this package contains any part of a secret.
package secrets
