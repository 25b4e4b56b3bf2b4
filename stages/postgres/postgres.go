// Package postgres is the stage that configures PostgreSQL as a service. It finds the server in the
// base image or its packages, and writes its configuration and its service description for
// sov-init.
//
// The guest creates the cluster at its first start, on the data disk.
package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/guestinit"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the stage's name.
const Name = "postgres"

// ServerFile is the output with a Server as JSON.
const ServerFile = "postgres.json"

// Options describe the server.
type Options struct {
	Below  []overlay.Share // the base image and its packages, one of which has the server
	Recipe *recipe.Recipe  // with PostgreSQL enabled
}

// New returns the stage.
func New(o Options) pipeline.Stage { return overlay.Share{Stage: &stage{o}} }

type stage struct{ Options }

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return overlay.Names(s.Below) }

// Key includes the service description of a sample server: the description comes from this version
// of sov, and a cached share must match the sov-init of the same version.
func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	clients, err := access{tls: s.Recipe.Postgres.Encrypted()}.hba(s.Recipe)
	if err != nil {
		return err
	}
	server := &Server{Dir: "/server", Major: 99, ICU: true, TLS: true, Sorting: "0"}
	if s.Recipe.Postgres.UpgradeFrom != 0 {
		server.Old = &Server{Dir: "/old", Major: s.Recipe.Postgres.UpgradeFrom}
	}
	service, err := s.service(server)
	if err != nil {
		return err
	}
	output.Version(k, 3)
	k.Add("template", assets.PostgresConf)
	k.Add("settings", s.values(&Server{AuthDelay: true, TLS: true}))
	k.Add("extensions", s.Recipe.Postgres.Extensions)
	k.Add("pg_hba.conf", clients)
	alone, err := access{tls: s.Recipe.Postgres.Encrypted(), standalone: true}.hba(s.Recipe)
	if err != nil {
		return err
	}
	k.Add("pg_hba.conf standalone", alone)
	k.Add("pg_ident.conf", ident(s.Recipe.Postgres))
	if s.Recipe.Postgres.Pooled() {
		access, err := poolerAccess(s.Recipe, true)
		if err != nil {
			return err
		}
		k.Add("pooler", poolerSettings(s.Recipe.Postgres, true)+access)
		k.Add("pooler's service", poolerService("/pooler", s.Recipe.Postgres, true))
	}
	k.Add("service", service)
	k.Add("collation", string(s.Recipe.Postgres.Collation))
	k.Add("majors", fmt.Sprint(s.Recipe.Postgres.Major, s.Recipe.Postgres.UpgradeFrom))
	return nil
}

func (s *stage) Run(_ context.Context, j *pipeline.Job) error {
	var server *Server
	err := overlay.Write(j, Name, s.Below, func(b *overlay.Builder, below *tree.Tree) (err error) {
		if server, err = findServer(below, s.Recipe.Postgres); err != nil {
			return err
		}
		if server.Sorting, err = sortingOf(below); err != nil {
			return err
		}
		j.Progress().Logf("found PostgreSQL %s in %s", server.Version, server.Dir)
		if err := server.checkSettings(below, s.Recipe, j.Warnf); err != nil {
			return err
		}
		if err := server.checkExtensions(below, s.Recipe.Postgres.Extensions); err != nil {
			return err
		}
		if s.Recipe.Postgres.Encrypted() && !server.TLS {
			j.Warnf("PostgreSQL %s was built without TLS: connections to it are not encrypted", server.Version)
		}
		if server.Old != nil { // it runs with the same settings until it is upgraded
			if err := server.Old.checkSettings(below, s.Recipe, func(string, ...any) {}); err != nil {
				return fmt.Errorf("PostgreSQL %d of postgres.upgrade_from: %w", server.Old.Major, err)
			}
		}
		if err := s.fill(b, server); err != nil {
			return err
		}
		return s.fillPooler(b, below, server.encrypted(s.Recipe))
	})
	if err != nil {
		return err
	}
	return output.WriteJSON(j, ServerFile, server)
}

// values returns a server's settings in postgresql.conf.
func (s *stage) values(server *Server) map[string]string {
	p := s.Recipe.Postgres
	values := settings(s.Recipe)
	libraries := preloads(p.Extensions)
	if server.AuthDelay {
		libraries = append(libraries, "auth_delay")
		withAuthDelay(values, p.Settings)
	}
	withLibraries(values, p.Settings, libraries)
	if server.encrypted(s.Recipe) {
		withTLS(values, s.Recipe)
	}
	return values
}

func (s *stage) fill(b *overlay.Builder, server *Server) error {
	tls := server.encrypted(s.Recipe)
	clients, err := access{tls: tls}.hba(s.Recipe)
	if err != nil {
		return err
	}
	service, err := s.service(server)
	if err != nil {
		return err
	}
	description, err := guestinit.EncodeService(service, nil)
	if err != nil {
		return err
	}
	b.Directory("etc/sov", 0o755, 0, 0)
	b.Directory(configDir, 0o755, 0, 0)
	b.File(configFile, 0o644, []byte(render(assets.PostgresConf, s.values(server))))
	b.File(hbaFile, 0o644, []byte(clients))
	alone, err := access{tls: tls, standalone: true}.hba(s.Recipe)
	if err != nil {
		return err
	}
	b.File(guestspec.StandaloneDir+"/"+hbaFile, 0o644, []byte(alone))
	b.File(identFile, 0o644, []byte(ident(s.Recipe.Postgres)))
	b.Directory(guestspec.ServicesDir, 0o755, 0, 0)
	b.File(guestspec.ServicesDir+"/"+guestspec.ServicePostgres+".json", 0o644, description)
	return nil
}

// fillPooler adds the pooler, if the recipe has one.
func (s *stage) fillPooler(b *overlay.Builder, below *tree.Tree, tls bool) error {
	if !s.Recipe.Postgres.Pooled() {
		return nil
	}
	program, err := findPooler(below)
	if err != nil {
		return err
	}
	access, err := poolerAccess(s.Recipe, tls)
	if err != nil {
		return err
	}
	description, err := guestinit.EncodeService(poolerService(program, s.Recipe.Postgres, tls), nil)
	if err != nil {
		return err
	}
	b.Directory(poolerDir, 0o755, 0, 0)
	b.File(poolerConfig, 0o644, []byte(poolerSettings(s.Recipe.Postgres, tls)))
	b.File(poolerHBA, 0o644, []byte(access))
	b.File(guestspec.ServicesDir+"/"+guestspec.ServicePooler+".json", 0o644, description)
	return nil
}

// service describes the server to sov-init.
func (s *stage) service(server *Server) (guestspec.Service, error) {
	p := s.Recipe.Postgres
	collation, err := server.collation(string(p.Collation))
	if err != nil {
		return guestspec.Service{}, err
	}
	socket := fmt.Sprintf("%s/.s.PGSQL.%d", socketDir, p.Port)
	prepare := []string{guestinit.ProgramPath, "postgres-prepare", "--user=" + p.User, "--data=" + p.Data, "--bin=" + server.Dir}
	if server.Old != nil {
		prepare = append(prepare, "--old-bin="+server.Old.Dir)
	}
	prepare = append(prepare, "--")
	service := guestspec.Service{
		Name:    guestspec.ServicePostgres,
		Command: server.command(p.Data, s.values(server)),
		Upgrade: server.upgrade(p),
		User:    p.User,
		Env: map[string]string{
			"LANG": "C.UTF-8",
			// If memory runs out, the kernel should kill the backend of a runaway query, not the
			// postmaster (PostgreSQL's manual, section "Linux Memory Overcommit").
			"PG_OOM_ADJUST_FILE":  "/proc/self/oom_score_adj",
			"PG_OOM_ADJUST_VALUE": "0",
		},
		Directories: []guestspec.Directory{{Path: socketDir, Mode: "2775", User: p.User}},
		Prepare: []guestspec.Step{collationStep(server, p),
			// initdb takes seconds on a phone, and minutes on an emulated processor that other
			// programs use too. A limit that it reaches makes it start over for ever.
			{Command: append(prepare, collation...), User: "root", Unconfined: true, Timeout: guestspec.Duration(time.Hour)}},
		Tmpfs:     []guestspec.Tmpfs{{Path: p.Data + "/pg_dynshmem", Mode: "0700", User: p.User}},
		Ready:     guestspec.Ready{Postgres: socket},
		PostReady: slices.Concat(accountSteps(p, socket), extensionSteps(p.Extensions, socket), poolerSteps(p, socket), []guestspec.Step{settledStep(p, socket)}),
		// SIGINT is a fast shutdown: sessions end, a checkpoint is written.
		Stop:        guestspec.Stop{Signal: "SIGINT", Timeout: guestspec.Duration(time.Minute)},
		OOMScoreAdj: -900,
		// The server may write everything on the disks that does not belong to another service, for
		// tablespaces and WAL archives.
		Rights: guestspec.Rights{Write: append(guestinit.WritableRoots(s.Recipe), p.Data)},
		// The rest is for sov-init and Tailscale, so that the machine stays reachable.
		Limits: guestspec.Limits{Memory: "90%", Processes: 4096, Keeps: "50%", Weight: guestspec.OwnWeight},
	}
	if server.encrypted(s.Recipe) {
		certify(&service, p)
	}
	return service, nil
}

// settledStep returns the last step, which records that the server became ready with its settings.
// It runs as root, which counts the server's starts.
func settledStep(p recipe.Postgres, socket string) guestspec.Step {
	return guestspec.Step{
		Command: []string{guestinit.ProgramPath, "postgres-settled", "--socket=" + socket, "--data=" + p.Data},
		User:    "root", Timeout: guestspec.Duration(time.Minute), Unconfined: true,
	}
}

// accountSteps returns the steps that create the recipe's roles and databases and set passwords,
// the superuser's first. A role without a secret exists but cannot log in.
func accountSteps(p recipe.Postgres, socket string) []guestspec.Step {
	step := func(verb, secret string, args ...string) guestspec.Step {
		command := append([]string{guestinit.ProgramPath, verb, "--socket=" + socket}, args...)
		return guestspec.Step{Command: command, Secret: secret, Timeout: guestspec.Duration(time.Minute)}
	}
	steps := []guestspec.Step{step("postgres-role", "postgres", "--role=postgres")}
	for _, role := range p.Roles {
		account := []string{"--role=" + role.Name, "--database=" + role.Database}
		if role.Superuser {
			account = append(account, "--superuser")
		}
		steps = append(steps, step("postgres-account", "", account...), step("postgres-role", role.Secret(), "--role="+role.Name))
	}
	return steps
}
