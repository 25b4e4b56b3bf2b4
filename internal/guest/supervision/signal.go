//go:build linux

package supervision

import (
	"path/filepath"
	"syscall"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// Signal sends a signal to the main process of a service, if that runs.
func (s *Supervisor) Signal(name string, signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range s.services {
		if service.spec.Name == name && service.task != nil {
			service.task.Signal(signal)
		}
	}
}

// hold sets the running process; nil if none runs.
func (s *service) hold(t *process.Task) {
	s.sup.mu.Lock()
	defer s.sup.mu.Unlock()
	s.task = t
}

// certificateDirs returns the directories with the certificates and keys of the machine's authority
// and of other services.
func (s *Supervisor) certificateDirs(spec guestspec.Service, all []guestspec.Service) []string {
	var dirs []string
	for _, other := range all {
		if other.Certificate == "" {
			continue
		}
		if len(dirs) == 0 {
			dirs = append(dirs, filepath.Join(s.config.Roots[0], guestspec.CertificateDir))
		}
		if other.Name != spec.Name {
			dirs = append(dirs, filepath.Dir(other.Certificate))
		}
	}
	return dirs
}
