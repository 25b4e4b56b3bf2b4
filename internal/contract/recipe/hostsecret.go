package recipe

// SecretTailscaleAPI is the name of the secret with an API access token of Tailscale, with which
// the user's computer removes nodes of deleted machines. No key of a recipe requires it, because a
// removed machine may not have a recipe.
const SecretTailscaleAPI = "tailscale-api"

// StaysHere reports whether a secret stays on the user's computer and is never sent to a phone.
func StaysHere(secret string) bool { return secret == SecretTailscaleAPI }
