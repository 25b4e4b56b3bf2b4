// Package settings reads the user's settings, which replace the defaults of flags. A value comes
// from the flag, else from an environment variable, else from the configuration file, else it is
// the default of the command.
//
// The configuration file is $SOV_CONFIG, else config.yaml in sov's folder of the user's
// configuration (package folders). docs/configuration.md describes it.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/host/folders"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/internal/strictyaml"
	"github.com/sovereign-sql/sov/pipeline/remote"
)

// The keys of the configuration file.
const (
	Image        = "image"
	Repositories = "repositories"
	Cache        = "cache"
	CacheFrom    = "cache_from"
	CacheTo      = "cache_to"
	CacheKey     = "cache_key"
	Passphrase   = "passphrase_file"
	Identity     = "identity"
	Recipients   = "backup_recipients"
	Device       = "device"
)

// A Setting is a value that has a key in the configuration file.
type Setting struct {
	Key      string
	Flag     string // of the commands that have it
	Variable string // environment variable; the elements of a list are separated by spaces
	Default  string // description of the default
	path     bool   // it is a path on this computer
	check    func(value string) error
	inFile   func(f *file) []string
}

// All are the settings, in the order in which they are shown.
var All = []Setting{
	{Image, "--image", "SOV_IMAGE", "the recipe's", false, checkImage, func(f *file) []string { return one(f.Image) }},
	{Repositories, "--repository", "SOV_REPOSITORIES", "the recipe's", false, recipe.CheckRepository, func(f *file) []string { return f.Repositories }},
	{Cache, "--cache", "SOV_CACHE_DIR", "", true, nil, func(f *file) []string { return one(f.Cache) }},
	{CacheFrom, "--cache-from", "SOV_CACHE_FROM", "none", false, checkSource, func(f *file) []string { return f.CacheFrom }},
	{CacheTo, "--cache-to", "SOV_CACHE_TO", "none", false, checkTarget, func(f *file) []string { return f.CacheTo }},
	{CacheKey, "--cache-key", "SOV_CACHE_KEY", "none", true, nil, func(f *file) []string { return f.CacheKey }},
	{Passphrase, "--passphrase-file", "SOV_PASSPHRASE_FILE", "asked for at the terminal", true, nil, func(f *file) []string { return one(f.Passphrase) }},
	{Identity, "--identity", "SOV_IDENTITY", "none", true, nil, func(f *file) []string { return one(f.Identity) }},
	{Recipients, "--recipient", "SOV_BACKUP_RECIPIENTS", "none: backups are not encrypted", true, checkRecipient, func(f *file) []string { return f.Recipients }},
	{Device, "--device", "SOV_DEVICE", "the only phone that is attached", false, nil, func(f *file) []string { return one(f.Device) }},
}

// file is the configuration file.
type file struct {
	Image        *string  `yaml:"image"`
	Repositories []string `yaml:"repositories"`
	Cache        *string  `yaml:"cache"`
	CacheFrom    []string `yaml:"cache_from"`
	CacheTo      []string `yaml:"cache_to"`
	CacheKey     []string `yaml:"cache_key"`
	Passphrase   *string  `yaml:"passphrase_file"`
	Identity     *string  `yaml:"identity"`
	Recipients   []string `yaml:"backup_recipients"`
	Device       *string  `yaml:"device"`
}

func one(value *string) []string {
	if value == nil {
		return nil
	}
	return []string{*value}
}

func checkImage(value string) error  { _, err := oci.Parse(value); return err }
func checkSource(value string) error { _, err := remote.ParseSource(value); return err }
func checkTarget(value string) error { _, err := remote.ParseTarget(value); return err }

func checkRecipient(value string) (err error) {
	if agefile.IsRecipient(value) {
		_, err = agefile.ParseRecipient(value)
	}
	return err
}

// An Origin is the source of a value.
type Origin string

// The origins, highest precedence first.
const (
	FromFlag        Origin = "flag"
	FromEnvironment Origin = "environment"
	FromFile        Origin = "file"
	FromDefault     Origin = "default"
)

// A Value is the value of a setting. With FromDefault it has no Values, except for Cache.
type Value struct {
	Values []string
	From   Origin
	Where  string // the flag, the variable with its $, or the file's path and line
}

// One returns the value of a setting that is not a list, or "".
func (v Value) One() string { return strings.Join(v.Values, " ") }

// Settings are a user's settings, without those of flags.
type Settings struct {
	Path   string // of the configuration file
	Exists bool
	values map[string]Value
}

// An Error is an error in the configuration file or an environment variable.
type Error struct{ err error }

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Load reads the configuration file and the environment, and checks both. A missing file counts as
// empty, unless $SOV_CONFIG names it. The error is an *Error; one of the file names line and
// column.
func Load(getenv func(string) string) (*Settings, error) {
	s, err := load(getenv)
	if err != nil {
		return nil, &Error{err}
	}
	return s, nil
}

func load(getenv func(string) string) (*Settings, error) {
	s := &Settings{Path: getenv("SOV_CONFIG"), values: map[string]Value{}}
	named := s.Path != ""
	if !named {
		dir, err := folders.Config(getenv)
		if err != nil {
			return nil, err
		}
		s.Path = filepath.Join(dir, "config.yaml")
	}
	text, err := os.ReadFile(s.Path)
	s.Exists = err == nil
	switch {
	case err == nil:
		if err := s.readFile(text); err != nil {
			return nil, err
		}
	case named:
		return nil, fmt.Errorf("read $SOV_CONFIG: %w: name a file that exists, or unset it", err)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if s.values[Cache].From == "" {
		if dir, err := folders.Cache(getenv); err == nil { // commands that need the cache report the error
			s.values[Cache] = Value{Values: []string{dir}, From: FromDefault}
		}
	}
	return s, s.readEnvironment(getenv)
}

func (s *Settings) readFile(text []byte) error {
	var f file
	doc, err := strictyaml.Decode(s.Path, text, &f)
	if err != nil {
		return err
	}
	for _, setting := range All {
		values := setting.inFile(&f)
		for i, value := range values {
			path := setting.Key
			if setting.list() {
				path = strictyaml.Index(path, i)
			}
			if values[i], err = setting.fromFile(value); err != nil {
				doc.Faultf(path, "%v", err)
			}
		}
		if len(values) > 0 {
			s.values[setting.Key] = Value{values, FromFile, fmt.Sprintf("%s:%d", s.Path, doc.Position(setting.Key).Line)}
		}
	}
	return doc.Err()
}

// fromFile checks a value of the file and makes a path absolute: the file applies in every working
// directory, so its paths must not depend on that.
func (setting Setting) fromFile(value string) (string, error) {
	if value == "" {
		return "", errors.New("is empty: remove the key to take the default")
	}
	if setting.isPath(value) {
		if rest, ok := strings.CutPrefix(value, "~/"); ok {
			home, err := os.UserHomeDir()
			return filepath.Join(home, rest), err
		}
		if !filepath.IsAbs(value) {
			return "", fmt.Errorf("%s: the path must begin with / or ~/", value)
		}
	}
	return value, setting.Check(value)
}

// Check checks one value of the setting.
func (setting Setting) Check(value string) error {
	if setting.check == nil {
		return nil
	}
	return setting.check(value)
}

func (s *Settings) readEnvironment(getenv func(string) string) error {
	if serial := getenv("ANDROID_SERIAL"); serial != "" { // adb uses it
		s.values[Device] = Value{[]string{"adb:" + serial}, FromEnvironment, "$ANDROID_SERIAL"}
	}
	for _, setting := range All {
		text := getenv(setting.Variable)
		if text == "" {
			continue
		}
		values := []string{text}
		if setting.Key == CacheKey && InPEM(text) {
			s.values[setting.Key] = Value{values, FromEnvironment, "$" + setting.Variable}
			continue
		}
		if setting.list() {
			values = fields(text)
		}
		for i, value := range values {
			err := setting.Check(value)
			if setting.isPath(value) && err == nil {
				values[i], err = filepath.Abs(value)
			}
			if err != nil {
				return fmt.Errorf("$%s: %w", setting.Variable, err)
			}
		}
		s.values[setting.Key] = Value{values, FromEnvironment, "$" + setting.Variable}
	}
	return nil
}

func (setting Setting) isPath(value string) bool {
	return setting.path && !(setting.Key == Recipients && agefile.IsRecipient(value))
}

// fields splits the value of a variable with a list. The two words of an SSH key are one element.
func fields(text string) (list []string) {
	for _, word := range strings.Fields(text) {
		if last := len(list) - 1; last >= 0 && strings.HasPrefix(list[last], "ssh-") && !strings.Contains(list[last], " ") {
			list[last] += " " + word
			continue
		}
		list = append(list, word)
	}
	return list
}

// InPEM reports whether a value is PEM text with keys, not the name of a file.
func InPEM(value string) bool { return strings.HasPrefix(strings.TrimSpace(value), "-----BEGIN") }

// list reports whether the setting may have several values.
func (setting Setting) list() bool {
	return slices.Contains([]string{Repositories, CacheFrom, CacheTo, CacheKey, Recipients}, setting.Key)
}

// Get returns the value of a setting. flag has the values of the flag, none if it is not given.
func (s *Settings) Get(key string, flag ...string) Value {
	flag = slices.DeleteFunc(slices.Clone(flag), func(value string) bool { return value == "" })
	if len(flag) > 0 {
		i := slices.IndexFunc(All, func(setting Setting) bool { return setting.Key == key })
		return Value{flag, FromFlag, All[i].Flag}
	}
	if v, ok := s.values[key]; ok {
		return v
	}
	return Value{From: FromDefault}
}
