package install

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// checkPostgres rejects a version whose PostgreSQL cannot read the databases on the phone, before
// anything is sent.
func (m *Machine) checkPostgres(ctx context.Context, s *fleet.Site) error {
	brings := m.Artifact.Manifest.PostgresMajors()
	if len(brings) == 0 {
		return nil
	}
	name := m.Artifact.Manifest.Name
	has, err := ClusterMajor(ctx, s, name)
	if err != nil || has == 0 || slices.Contains(brings, has) {
		return err
	}
	newest := slices.Max(brings)
	if newest < has {
		return &fleet.FoundError{What: fmt.Sprintf("the databases of %s on %s belong to PostgreSQL %d, and this version of the machine has %d, which cannot read them; nothing was sent: "+
			"build it with %[3]d (--set postgres.major=%[3]d)", name, s.Name(), has, newest)}
	}
	return &fleet.FoundError{What: fmt.Sprintf("the databases of %s on %s belong to PostgreSQL %d, and this version of the machine has %d, which cannot read them; nothing was sent: "+
		"`sov upgrade %[1]s` upgrades them, or build it with %[3]d (--set postgres.major=%[3]d)", name, s.Name(), has, newest)}
}

// ClusterMajor returns the PostgreSQL major version of a machine's databases on a phone, as
// reported by its server or, if that does not answer, of the installed version. 0: there are none
// yet, or the version is unknown.
func ClusterMajor(ctx context.Context, s *fleet.Site, name string) (int, error) {
	places, err := s.Root().VM(name)
	if err != nil {
		return 0, err
	}
	if err := s.Run(ctx, device.Command{Args: []string{"test", "-e", places.Data()}}); err != nil {
		if errors.As(err, new(*device.ExitError)) {
			return 0, nil
		}
		return 0, err
	}
	if now, err := Status(ctx, s, name); err == nil && now.Database != nil {
		if major := majorOf(now.Database.Version); major != 0 {
			return major, nil
		}
	}
	text, err := device.ReadFile(ctx, s, path.Join(places.Current(), artifact.ManifestFile))
	if errors.As(err, new(*device.ExitError)) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	installed, err := manifest.Decode(text)
	if err != nil {
		return 0, nil // of an unknown release of sov: the guest checks again
	}
	majors := installed.PostgresMajors()
	switch len(majors) {
	case 0:
		return 0, nil
	case 1:
		return majors[0], nil
	}
	return 0, &fleet.FoundError{What: fmt.Sprintf("%s on %s has two major versions of PostgreSQL and does not run, so nothing says of which its databases are: type `sov start %[1]s` first", name, s.Name())}
}

// majorForm matches the beginning of a server's version: "17.6", "18beta1".
var majorForm = regexp.MustCompile(`^[1-9][0-9]`)

// majorOf returns the major version of a server's version, or 0.
func majorOf(version string) int {
	major, _ := strconv.Atoi(majorForm.FindString(version))
	return major
}
