package tree

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/bound"
)

// xattrRecord is the prefix of PAX records with extended attributes. star introduced it; GNU tar,
// libarchive and Docker use it too.
const xattrRecord = "SCHILY.xattr."

// Bounds on extended attributes: those of Linux (limits.h: XATTR_NAME_MAX, XATTR_SIZE_MAX), and the
// total bytes of one file. ext4 stores a few KiB at most.
const (
	maxXattrName  = 255
	maxXattrBytes = 64 << 10
)

// paxRecords are the keyword=value pairs of a PAX extended header. The parts
// of a GNU 0.0 sparse map, whose keywords repeat, are joined under "GNU.sparse.map".
type paxRecords map[string]string

// parsePAX reads records of the form "LENGTH KEYWORD=VALUE\n".
func parsePAX(data []byte) (paxRecords, error) {
	records := make(paxRecords)
	var sparse []string
	for rest := string(data); rest != ""; {
		if strings.Trim(rest, "\x00") == "" {
			break
		}
		digits, _, ok := strings.Cut(rest, " ")
		length, err := strconv.Atoi(digits)
		if !ok || err != nil || length <= len(digits)+1 || length > len(rest) || rest[length-1] != '\n' {
			return nil, errors.New("malformed PAX record")
		}
		key, value, ok := strings.Cut(rest[len(digits)+1:length-1], "=")
		if !ok || key == "" {
			return nil, errors.New("PAX record without a keyword")
		}
		rest = rest[length:]
		switch key {
		case "GNU.sparse.offset", "GNU.sparse.numbytes":
			sparse = append(sparse, value)
			continue
		case "path", "linkpath":
			if strings.Contains(value, "\x00") {
				return nil, fmt.Errorf("%s %q has a NUL byte", key, value)
			}
		}
		records[key] = value
	}
	if sparse != nil {
		records["GNU.sparse.map"] = strings.Join(sparse, ",")
	}
	return records, nil
}

// applyPAX overrides the values of the header. An empty value deletes a record, so that the
// header's value applies.
func (e *tarEntry) applyPAX(records paxRecords, size *int64) error {
	for key, value := range records {
		if strings.HasPrefix(key, xattrRecord) {
			continue
		}
		if value == "" {
			continue
		}
		var err error
		switch key {
		case "path":
			e.name = value
		case "linkpath":
			e.link = value
		case "size":
			*size, err = paxNumber(value)
		case "uid":
			e.uid, err = paxNumber(value)
		case "gid":
			e.gid, err = paxNumber(value)
		case "mtime":
			e.mtime, err = paxTime(value)
		}
		if err != nil {
			return fmt.Errorf("PAX record %s=%q: %w", key, value, err)
		}
	}
	return nil
}

// applyXattrs sets the entry's extended attributes: those of the global records and its own, which
// take precedence. A global header applies to all following entries, so its attributes are
// converted once and shared: an archive must not need more memory than its size.
func (s *tarScanner) applyXattrs(e *tarEntry, local paxRecords) error {
	own, err := xattrsOf(local)
	if err != nil {
		return err
	}
	switch {
	case len(own) == 0:
		e.xattrs = s.globalXattrs
		return nil
	case len(s.globalXattrs) == 0:
		e.xattrs = own
		return nil
	}
	e.xattrs = maps.Clone(s.globalXattrs)
	maps.Copy(e.xattrs, own)
	// Each entry with both has its own map, with at least as many keys as the global header.
	if s.mixed += len(e.xattrs); s.mixed > maxMixedXattrs {
		return fmt.Errorf("global and own extended attributes make more than %d: %w", maxMixedXattrs, bound.ErrTooLarge)
	}
	return nil
}

// maxMixedXattrs limits the attributes of all entries that are copied because the entry also has
// its own. Known tools write global headers without attributes.
const maxMixedXattrs = 1 << 20

func xattrsOf(records paxRecords) (map[string][]byte, error) {
	var out map[string][]byte
	total := 0
	for key, value := range records {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok {
			continue
		}
		total += len(name) + len(value)
		if len(name) > maxXattrName || total > maxXattrBytes {
			return nil, fmt.Errorf("extended attribute %.40q: a name of at most %d bytes, and %d bytes of attributes in a file, are accepted: %w",
				name, maxXattrName, maxXattrBytes, bound.ErrTooLarge)
		}
		if out == nil {
			out = make(map[string][]byte)
		}
		out[name] = []byte(value)
	}
	return out, nil
}

func paxNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("not a number")
	}
	return n, nil
}

// paxTime reads seconds since the epoch with any number of decimals, of which nine are used. It
// rounds down, also before the epoch.
func paxTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec > math.MaxInt64/4 || sec < math.MinInt64/4 {
		return time.Time{}, errors.New("not a time")
	}
	if strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, errors.New("not a time")
	}
	digits := (fraction + "000000000")[:9]
	nsec, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return time.Time{}, errors.New("not a time")
	}
	if strings.HasPrefix(whole, "-") {
		nsec = -nsec
		if len(fraction) > 9 && strings.Trim(fraction[9:], "0") != "" {
			nsec--
		}
	}
	return time.Unix(sec, nsec), nil
}
