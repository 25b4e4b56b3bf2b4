// Package secrets keeps the secrets of machines on the user's computer: passwords and auth keys,
// until they are sent to a phone or handed to a guest. It knows nothing of what they are for.
//
// A store is a folder that only its owner may look into:
//
//	VM/NAME            one secret: its bytes as they are, or an age file of them
//	recipients.txt     age recipients, one a line: whom secrets are encrypted to; absent: they are plain
//	identity.age       an age identity that a passphrase opens
//
// Folders have mode 0700 and files 0600; what others can read, or what belongs to another user, is
// refused rather than used. Whether a secret is encrypted is told by its first bytes
// (age-encryption.org/v1), so that it has one name either way and changes from one to the other in
// one step.
//
// A passphrase does not encrypt secrets itself but an identity made for the store, to which they
// are encrypted: so a secret can be set without the passphrase, and one passphrase opens them all.
// Every file that age writes here is opened by the age program too.
//
// No error of this package holds a byte of a secret.
package secrets
