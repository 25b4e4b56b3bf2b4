package remote

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// A Spec is a remote cache as the user writes it.
type Spec struct {
	Repository string // in a registry
	Path       string // of a directory, if Repository is empty
	Max        bool   // of a target: send everything
	Patience   time.Duration
}

// Local reports whether no network is needed.
func (s Spec) Local() bool { return s.Repository == "" }

// ParseSource parses a cache to read from: a repository, optionally with ",timeout=TIME", or
// "type=dir,src=PATH".
func ParseSource(text string) (Spec, error) { return parse(text, "src", "timeout") }

// ParseTarget parses a cache to write to: a repository or "type=dir,dest=PATH", optionally with
// ",mode=min" or ",mode=max" (the default) and ",timeout=TIME".
func ParseTarget(text string) (Spec, error) { return parse(text, "dest", "timeout", "mode") }

// parse parses fields that are separated by commas. The first may be a repository alone, short for
// BuildKit's "type=registry,ref=".
func parse(text, pathField string, more ...string) (Spec, error) {
	fields := map[string]string{}
	for i, part := range strings.Split(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok && i == 0 {
			name, value = "ref", part
		}
		if _, twice := fields[name]; value == "" || twice {
			return Spec{}, fmt.Errorf("remote cache %q: %q is empty, or there twice", text, name)
		}
		fields[name] = value
	}
	spec := Spec{Max: true}
	var err error
	known := append([]string{"type", "ref", pathField}, more...)
	for name, value := range fields {
		if err := spec.set(name, value, pathField, known); err != nil {
			return Spec{}, fmt.Errorf("remote cache %q: %w", text, err)
		}
	}
	switch kind := fields["type"]; {
	case kind == "dir" && (spec.Path == "" || spec.Repository != ""):
		err = fmt.Errorf("a directory is written type=dir,%s=PATH", pathField)
	case (kind == "" || kind == "registry") && (spec.Repository == "" || spec.Path != ""):
		err = errors.New("a registry's is written HOST/REPOSITORY, or type=registry,ref=HOST/REPOSITORY")
	case kind != "" && kind != "dir" && kind != "registry":
		err = fmt.Errorf("type=%s: must be registry or dir", kind)
	}
	if err != nil {
		return Spec{}, fmt.Errorf("remote cache %q: %w", text, err)
	}
	return spec, nil
}

func (s *Spec) set(name, value, pathField string, known []string) (err error) {
	switch {
	case name == "type":
	case name == "ref" && strings.Contains(value, "://"):
		return fmt.Errorf("write HOST/REPOSITORY without %s://", strings.SplitN(value, "://", 2)[0])
	case name == "ref":
		s.Repository = value
	case name == pathField:
		s.Path = value
	case name == "timeout" && slices.Contains(known, name):
		s.Patience, err = time.ParseDuration(value)
		if err != nil || s.Patience <= 0 {
			return errors.New("timeout is a time such as 10s")
		}
	case name == "mode" && slices.Contains(known, name) && (value == "min" || value == "max"):
		s.Max = value == "max"
	default:
		return fmt.Errorf("%s=%s: unknown; write type=dir,%s=PATH for a folder, or HOST/REPOSITORY", name, value, pathField)
	}
	return nil
}

// An Opener opens each cache once, so that a cache that is both read and written shares its state.
type Opener struct {
	Keychain authn.Keychain // credentials for registries; nil: none
	Trust    Trust          // of all caches
	caches   map[Spec]*PieceCache
}

// Open returns the cache that a Spec names, without accessing it.
func (o *Opener) Open(s Spec) (*PieceCache, error) {
	s.Max = false
	if c := o.caches[s]; c != nil {
		return c, nil
	}
	c := Dir(s.Path)
	if !s.Local() {
		var err error
		if c, err = Registry(s.Repository, RegistryOptions{Patience: s.Patience, Keychain: o.Keychain}); err != nil {
			return nil, err
		}
	}
	if o.caches == nil {
		o.caches = map[Spec]*PieceCache{}
	}
	o.caches[s] = c.Trusting(o.Trust)
	return c, nil
}

// Options opens the remote caches of a build.
func (o *Opener) Options(from, to []Spec) (Options, error) {
	var out Options
	for _, s := range from {
		c, err := o.Open(s)
		if err != nil {
			return out, err
		}
		out.From = append(out.From, c)
	}
	for _, s := range to {
		c, err := o.Open(s)
		if err != nil {
			return out, err
		}
		out.To = append(out.To, Target{Cache: c, Max: s.Max})
	}
	return out, nil
}
