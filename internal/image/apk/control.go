package apk

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Control is the content of a package's control member.
type Control struct {
	// Package is the content of .PKGINFO, with the member's checksum and the file's size.
	Package *Package
	// DataHash is the SHA-256 of the data member as compressed, in hexadecimal; empty for a package
	// without one.
	DataHash string
	// Triggers are patterns of directories. The trigger script runs if one of them changes.
	Triggers []string
	// Scripts are the maintainer scripts in the order of the file.
	Scripts []Script
}

// A Script is one of a package's maintainer scripts.
type Script struct {
	Type string // one of scriptTypes
	Body []byte
}

// scriptTypes are the scripts apk knows, in the order in which it writes them to its database.
var scriptTypes = []string{
	"pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade", "post-upgrade", "trigger",
}

// pkginfoFields maps the keys of .PKGINFO to those of the index.
var pkginfoFields = map[string]byte{
	"pkgname": 'P', "pkgver": 'V', "pkgdesc": 'T', "url": 'U', "size": 'I', "license": 'L', "arch": 'A',
	"depend": 'D', "install_if": 'i', "provides": 'p', "replaces": 'r', "replaces_priority": 'q',
	"origin": 'o', "maintainer": 'm', "builddate": 't', "commit": 'c', "provider_priority": 'k',
}

// parseControl reads the tar in a control member.
func parseControl(content []byte) (*Control, error) {
	c := &Control{}
	tr := tar.NewReader(bytes.NewReader(content))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		script, hidden := strings.CutPrefix(h.Name, ".")
		isScript := hidden && slices.Contains(scriptTypes, script)
		if h.Name != ".PKGINFO" && !isScript {
			continue // apk ignores .dummy, .INSTALL and others
		}
		if h.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("%s is not a regular file", h.Name)
		}
		body, err := io.ReadAll(io.LimitReader(tr, maxControl+1))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		if len(body) > maxControl {
			return nil, fmt.Errorf("%s holds more than %d bytes", h.Name, maxControl)
		}
		if isScript {
			c.Scripts = append(c.Scripts, Script{Type: script, Body: body})
			continue
		}
		if c.Package != nil {
			return nil, errors.New("more than one .PKGINFO")
		}
		if err := c.parseInfo(body); err != nil {
			return nil, fmt.Errorf(".PKGINFO: %w", err)
		}
	}
	if c.Package == nil {
		return nil, errors.New("no .PKGINFO")
	}
	return c, nil
}

// parseInfo reads a .PKGINFO: lines "key = value", and comments that begin with "#".
func (c *Control) parseInfo(text []byte) error {
	c.Package = &Package{}
	err := eachLine(bytes.NewReader(text), func(_ int, line string) error {
		key, value, ok := strings.Cut(line, " = ")
		if !ok || strings.HasPrefix(line, "#") {
			return nil
		}
		switch key {
		case "datahash":
			if len(value) != 64 || strings.Trim(value, "0123456789abcdef") != "" {
				return fmt.Errorf("datahash %q is not a SHA-256 in hexadecimal", value)
			}
			c.DataHash = value
		case "triggers":
			c.Triggers = strings.Fields(value)
		default:
			if field, ok := pkginfoFields[key]; ok {
				_, err := c.Package.setField(field, value)
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.Package.Name == "" || c.Package.Version == "" {
		return errors.New("pkgname or pkgver is missing")
	}
	return nil
}
