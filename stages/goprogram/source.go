package goprogram

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// Sum returns the digest of the sources of a program: the module's checksum as go.sum has it, the
// SHA-256 of a list of its files (golang.org/x/mod/sumdb/dirhash, Hash1), in hexadecimal. For a
// folder it is that of the files that would be in the module's zip: not .git, vendor or other
// modules.
func Sum(ctx context.Context, o Options, p recipe.GoProgram) (string, error) {
	dir, err := os.MkdirTemp("", "sov-go-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	f, err := o.fetch(ctx, p, dir, "")
	return f.sum, err
}

// A fetched is the zip of a program's module.
type fetched struct {
	module.Version
	zip string // its file
	sum string
}

// local is the path and version of a folder's module in its zip.
var local = module.Version{Path: "source.invalid/module", Version: "v0.0.0"}

// fetch returns the module of a program, which must have the digest want unless that is "".
func (o Options) fetch(ctx context.Context, p recipe.GoProgram, dir, want string) (f fetched, err error) {
	if p.Module == "" {
		f, err = o.pack(p, dir, want)
	} else {
		f, err = o.download(ctx, p, dir, want != "")
	}
	if err != nil {
		return f, err
	}
	h1, err := dirhash.HashZip(f.zip, dirhash.Hash1)
	if err != nil {
		return f, err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h1, "h1:"))
	if err != nil {
		return f, err
	}
	if f.sum = hex.EncodeToString(raw); want != "" && f.sum != want {
		return f, fmt.Errorf("%s has the checksum %s, and the lock has %s: put the old sources back, or take these with `sov lock RECIPE --update files`", p.From(), f.sum, want)
	}
	return f, nil
}

// pack makes a zip of a folder. If the folder does not exist, it takes the sources from the bundle.
func (o Options) pack(p recipe.GoProgram, dir, want string) (fetched, error) {
	f := fetched{Version: local, zip: filepath.Join(dir, "source.zip")}
	folder := p.Source
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(o.Dir, folder)
	}
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) && o.Bundle != nil && want != "" {
		return f, o.unpackSource(want, f.zip)
	}
	if _, err := os.Stat(filepath.Join(folder, "go.mod")); err != nil {
		return f, fmt.Errorf("%w: source is a folder with a Go module, relative to the folder of the recipe", err)
	}
	w, err := os.Create(f.zip)
	if err != nil {
		return f, err
	}
	return f, errors.Join(modzip.CreateFromDir(w, local, folder), w.Close())
}

// download runs the go command to fetch a module. If the checksum is known, it does not use the
// checksum database.
func (o Options) download(ctx context.Context, p recipe.GoProgram, dir string, known bool) (fetched, error) {
	f := fetched{Version: module.Version{Path: p.Module, Version: p.Version}}
	program, env, err := o.environment(ctx, dir)
	if err != nil {
		return f, err
	}
	if name, err := proxyName(f.Version); err != nil {
		return f, err
	} else if f.zip = filepath.Join(dir, "proxy", filepath.FromSlash(name)+".zip"); known && exists(f.zip) {
		return f, nil // from the bundle
	}
	asking := filepath.Join(dir, "fetch")
	if err := os.MkdirAll(asking, 0o755); err != nil {
		return f, err
	}
	text := fmt.Sprintf("module source.invalid\n\ngo 1.21\n\nrequire %s %s\n", p.Module, p.Version)
	if err := os.WriteFile(filepath.Join(asking, "go.mod"), []byte(text), 0o644); err != nil {
		return f, err
	}
	flags := strings.ReplaceAll(setting(env, "GOFLAGS"), "-mod=readonly", "-mod=mod")
	env = append(env, "GOFLAGS="+flags)
	if known {
		env = append(env, "GONOSUMDB=*", "GOSUMDB=off")
	}
	var out, complaint bytes.Buffer
	err = confine.Command{Path: program, Args: []string{"mod", "download", "-json", p.Module}, Dir: asking, Env: env, Stdout: &out, Stderr: &complaint, Plain: true}.Run(ctx)
	var said struct{ Zip, Error string }
	if decoded := json.NewDecoder(&out).Decode(&said); err == nil {
		err = decoded
	}
	if err != nil || said.Error != "" {
		return f, fmt.Errorf("go mod download %s: %w: %s%s", p.From(), errors.Join(err), said.Error, strings.TrimSpace(complaint.String()))
	}
	f.zip = said.Zip
	return f, nil
}

// proxyName returns the path of a module's files below a module proxy, without their extensions.
func proxyName(m module.Version) (string, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	return path + "/@v/" + version, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
