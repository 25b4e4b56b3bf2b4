package recipe

// SecretTailscaleAPI is the name of the secret with an API access token of Tailscale's, by which
// the user's computer removes nodes that are no machine's any more. It follows from no key of a
// recipe: a machine that is removed may have none.
const SecretTailscaleAPI = "tailscale-api"

// StaysHere reports whether a secret is the user's computer's alone: no phone and no machine gets
// it.
func StaysHere(secret string) bool { return secret == SecretTailscaleAPI }
