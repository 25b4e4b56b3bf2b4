package recipe

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/schedule"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A Step is a command that runs to its end around a service's start; a document may give the
// command alone.
type Step struct {
	Command []string `yaml:"command"`
	User    string   `yaml:"user"` // empty: the service's
}

// Short implements strictyaml.Abbreviated.
func (s *Step) Short() any { return &s.Command }

// Alive is a check of a ready service; the service is restarted when it fails. At most one of the
// first four fields is set.
type Alive struct {
	HTTP     string   `yaml:"http"` // a URL that answers with a status from 200 to 399
	TCP      string   `yaml:"tcp"`
	Unix     string   `yaml:"unix"`
	Command  []string `yaml:"command"`
	Interval Duration `yaml:"interval"` // between checks; absent: 30s
	Timeout  Duration `yaml:"timeout"`  // of each check; absent: 5s
	Failures int      `yaml:"failures"` // consecutive failures after which the service is restarted; absent: 3
}

// Log configures the log of a service's output.
type Log struct {
	Size Size `yaml:"size"` // on the data disk; absent: 2MiB
}

// MachineReady limits the start of the machine.
type MachineReady struct {
	Timeout Duration `yaml:"timeout"` // absent: 5m
}

// Defaults and bounds of the life of services.
const (
	aliveInterval = Duration(30 * time.Second)
	aliveTimeout  = Duration(5 * time.Second)
	aliveFailures = 3
	// An emulated first start with initdb takes about ten seconds, a crash recovery of a full WAL
	// on a slow phone minutes.
	machineTimeout = Duration(5 * time.Minute)
	leastInterval  = Duration(100 * time.Millisecond)
)

// completeLife sets the defaults of a service's checks and restarts.
func (s *Service) completeLife() {
	if a := s.Alive; a != nil {
		setDefault(&a.Interval, aliveInterval)
		setDefault(&a.Timeout, aliveTimeout)
		setDefault(&a.Failures, aliveFailures)
	}
}

// life checks the keys of a service's checks and restarts.
func (c *checker) life(at string, s Service) {
	for key, steps := range map[string][]Step{"prepare": s.Prepare, "post_ready": s.PostReady} {
		for i, step := range steps {
			c.require(len(step.Command) > 0 && path.IsAbs(step.Command[0]), strictyaml.Index(at+"."+key, i), "must begin with the absolute path of a program")
		}
	}
	r := s.Ready
	c.oneOf(at+".ready", r.HTTP, r.TCP, r.Unix, r.Command)
	c.httpURL(at+".ready.http", r.HTTP)
	c.require(r.Interval == 0 || r.Interval >= leastInterval, at+".ready.interval", "is less than 100ms")
	if a := s.Alive; a != nil {
		c.require(c.oneOf(at+".alive", a.HTTP, a.TCP, a.Unix, a.Command) == 1, at+".alive", "give one of http, tcp, unix and command")
		c.httpURL(at+".alive.http", a.HTTP)
		c.require(a.Interval >= leastInterval, at+".alive.interval", "is less than 100ms")
		c.require(a.Failures >= 1, at+".alive.failures", "%d is less than 1", a.Failures)
	}
	for name := range s.Limits.Rlimits {
		at := strictyaml.Join(at+".limits.rlimits", name)
		c.require(slices.Contains(guestspec.RlimitNames, name), at, "%q must be one of %s", name, strings.Join(guestspec.RlimitNames, ", "))
	}
	c.require(s.Log.Size == 0 || s.Log.Size >= 64*KiB && s.Log.Size <= GiB, at+".log.size", "%s is not from 64KiB to 1GiB", s.Log.Size)
	if s.Schedule == "" {
		return
	}
	_, err := schedule.Parse(s.Schedule)
	c.check(at+".schedule", err)
	c.require(r.HTTP == "" && r.TCP == "" && r.Unix == "" && len(r.Command) == 0, at+".ready", "does not go with schedule: the service is not kept running")
	c.require(s.Alive == nil, at+".alive", "does not go with schedule: the service is not kept running")
	c.require(len(s.PostReady) == 0, at+".post_ready", "does not go with schedule: the service is not kept running")
}

// oneOf requires at most one kind of check, and returns how many are given.
func (c *checker) oneOf(at, http, tcp, unix string, command []string) (given int) {
	for _, is := range []bool{http != "", tcp != "", unix != "", len(command) > 0} {
		if is {
			given++
		}
	}
	c.require(given <= 1, at, "give one of http, tcp, unix and command")
	return given
}

func (c *checker) httpURL(at, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	c.require(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil, at, "%q is not a URL such as http://127.0.0.1:8080/health", text)
}

// sysctlForm are the settings of the kernel that a recipe may change: those of its network, memory,
// files and shared memory. Settings that isolate services belong to sov-init.
var sysctlForm = regexp.MustCompile(`^(net\.(core|ipv4|ipv6|netfilter|unix)(\.[a-z0-9_-]+)+|vm\.[a-z0-9_]+|` +
	`fs\.(file-max|nr_open|aio-max-nr|pipe-[a-z-]+|inotify\.[a-z_]+|mqueue\.[a-z_]+)|` +
	`kernel\.(shm[a-z_]+|msg[a-z_]+|sem|pid_max|threads-max|sched_[a-z_]+))$`)

// machineLife checks the settings of the kernel and how long a start may take.
func (c *checker) machineLife() {
	for name, value := range c.VM.Sysctl {
		at := strictyaml.Join("vm.sysctl", name)
		c.require(sysctlForm.MatchString(name), at, "%q cannot be set by a recipe: use settings of net, vm, fs (limits) and kernel (shared memory, messages, processes), as sysctl names them", name)
		c.require(value != "" && len(value) <= 256, at, "must be a value of up to 256 characters")
	}
	t := time.Duration(c.VM.Ready.Timeout)
	c.require(t >= 10*time.Second && t <= 24*time.Hour && t%time.Second == 0, "vm.ready.timeout", "%s is not a whole number of seconds from 10s to 24h", t)
}
