package drill

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
)

const (
	// privateDatabase is the name of the copy in a server of our own.
	privateDatabase = "pgmedic_drill"
	// databasePrefix begins the name of the copy on a server that is not ours; the
	// backup's id follows.
	databasePrefix = "pgmedic_drill_"
	// storyBy is what the story of such a copy says it was made by.
	storyBy = "drill"
)

// place is where a drill restores to.
type place struct {
	target        postgres.Target
	maintenance   string
	database      string
	superuser     bool
	createRoles   bool
	tablespaceDir func(name string) (string, error)
	scratch       *pgmedic.Scratch
	// refused are settings of the backup's server that this one does not take.
	refused []string
	// overrun is why the server was ended, if it was for filling the disk; nil
	// for a server that is not ours.
	overrun func() error
	// detached says what became of subscriptions; empty means that they are detached.
	detached string
	// leave removes the place: the server, or what holds the name.
	leave func(ctx context.Context) error
}

// openPlace makes the server, or prepares one that exists.
func (o Options) openPlace(ctx context.Context) (*place, error) {
	if o.Kind == "" || o.Kind == pgmedic.ScratchPrivate {
		return o.openPrivate(ctx)
	}
	return o.openServer(ctx)
}

func (o Options) openPrivate(ctx context.Context) (_ *place, err error) {
	b := o.Backup
	server, err := scratch.Start(ctx, scratch.Options{
		Major: b.Server.Major(), SearchDirs: o.ServerDirs, Parent: o.ScratchDir,
		Superuser: b.Server.BootstrapRole, Logger: o.Logger, Encoding: privateEncoding(b.Database.Encoding),
		// With fsync off the measured time would not be a time to recover.
		Durable:  true,
		Cage:     o.cage(),
		Settings: scratch.PrivateSettings(b.Server.Major(), o.PreloadLibraries, privateDatabase),
	})
	if err != nil {
		return nil, fmt.Errorf("start a scratch server for the drill: %w", err)
	}
	p := &place{
		maintenance: postgres.DefaultMaintenance, database: privateDatabase, createRoles: true, tablespaceDir: server.TablespaceDir,
		leave: func(ctx context.Context) error {
			if err := server.Stop(ctx); err != nil {
				return fmt.Errorf("remove the scratch server: %w", err)
			}
			return nil
		},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.leave(context.WithoutCancel(ctx)))
		}
	}()
	target, err := postgres.ParseTarget(server.DSN(postgres.DefaultMaintenance))
	if err != nil {
		return nil, err
	}
	// The server asks for no password. What runs in it could, and must not get one
	// from the environment or from a password file.
	target = target.With("password", "none")
	if err := p.look(ctx, target); err != nil {
		return nil, err
	}
	if err := p.give(ctx, target, b.Server.Settings); err != nil {
		return nil, err
	}
	p.overrun = server.Overrun
	s := p.scratch
	s.Kind, s.Walls, s.MissingWalls = pgmedic.ScratchPrivate, server.Walls().Standing, server.Walls().Missing
	s.NoNetwork = server.Walls().Has(pgmedic.WallNetwork)
	s.CPUs, s.MemoryBytes, s.Platform = runtime.GOMAXPROCS(0), o.MemoryBytes, runtime.GOOS+"/"+runtime.GOARCH
	return p, nil
}

// privateEncoding is that of the private server's own databases, for a copy of some
// encoding: names of roles are in whatever the source's were in.
func privateEncoding(copied string) string {
	if copied == "UTF8" {
		return copied
	}
	return "SQL_ASCII"
}

// give makes the settings of the backup's server those of the private one, for
// all that is computed in the copy.
func (p *place) give(ctx context.Context, t postgres.Target, settings []pgmedic.Setting) error {
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	p.refused, err = databases.GiveToAll(ctx, conn, settings)
	return err
}

// openServer prepares a server that is not ours: it takes the name of the temporary
// database, and removes what dead drills left.
func (o Options) openServer(ctx context.Context) (_ *place, err error) {
	p := &place{maintenance: o.Maintenance, database: databasePrefix + o.Backup.ID}
	if p.maintenance == "" {
		p.maintenance = postgres.DefaultMaintenance
	}
	lock, err := databases.AcquireRunLock(ctx, o.Target, p.maintenance, p.database)
	if err != nil {
		return nil, err
	}
	p.leave = func(ctx context.Context) error {
		lock.Release(ctx)
		return nil
	}
	defer func() {
		if err != nil {
			lock.Release(ctx)
		}
	}()
	if err := p.look(ctx, o.Target); err != nil {
		return nil, err
	}
	p.scratch.Kind, p.scratch.Server = o.Kind, o.Target.WithDatabase("").String()
	conn, err := postgres.Connect(ctx, p.target.WithDatabase(p.maintenance))
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	if err := o.sweep(ctx, conn, p); err != nil {
		return nil, err
	}
	return p, o.refuseCrowded(ctx, conn)
}

// look reads what the measured time depends on, and turns off what would run in
// sessions with the copy.
func (p *place) look(ctx context.Context, t postgres.Target) error {
	conn, err := postgres.Connect(ctx, t.WithDatabase(p.maintenance))
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	if postgres.Pooled(conn) {
		return pgmedic.Errorf(pgmedic.KindUsage, "set DIRECT_URL to the server itself, or drill on a private server",
			"drill on a server through a pooler: sessions with the copy could not begin with the settings that keep it from acting")
	}
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return err
	}
	settings, err := postgres.ReadSettings(ctx, conn, []string{
		"fsync", "full_page_writes", "synchronous_commit", "shared_buffers", "maintenance_work_mem",
		"max_wal_size", "max_parallel_maintenance_workers", "wal_level", "data_checksums",
	})
	if err != nil {
		return err
	}
	p.scratch = &pgmedic.Scratch{Version: server.Version, Settings: settings, Durable: true}
	for _, name := range durable() {
		if settings[name] == "off" {
			p.scratch.Durable = false
		}
	}
	err = conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&p.superuser)
	if err != nil {
		return postgres.Wrap(err, "read the role's privileges")
	}
	// What the source's settings would do to every session with the copy. Those
	// of a session's start override those of its database.
	options := "-c default_transaction_read_only=off"
	if p.superuser {
		options = scratch.SessionOptions(server.Major())
	}
	p.target = t.With("options", strings.TrimSpace(t.Value("options")+" "+options))
	return nil
}

// durable are the settings by which a commit waits until it is safe.
func durable() []string { return []string{"fsync", "full_page_writes", "synchronous_commit"} }

// sweep drops the databases that drills left on the server when they were
// killed: those that say so themselves and that no run holds the lock of.
func (o Options) sweep(ctx context.Context, conn *pgx.Conn, p *place) error {
	stories, err := databases.ReadStories(ctx, conn)
	if err != nil {
		return err
	}
	for _, k := range stories {
		s := k.Story
		if !strings.HasPrefix(k.Name, databasePrefix) || s.Pgmedic != pgmedic.StoryLoading || s.By != storyBy || s.Of != k.Name {
			continue
		}
		err := o.sweepOne(ctx, p, k.Name)
		switch {
		case err == nil:
			o.Logger.Info("dropped what a drill left behind", "database", k.Name, "since", s.Since)
		case k.Name == p.database || ctx.Err() != nil:
			return err
		case pgmedic.KindOf(err) != pgmedic.KindConflict: // another drill uses it
			o.Logger.Warn("what a drill left behind could not be dropped", "database", k.Name, "error", err)
		}
	}
	return nil
}

func (o Options) sweepOne(ctx context.Context, p *place, name string) error {
	if name != p.database { // whose lock is ours
		lock, err := databases.AcquireRunLock(ctx, o.Target, p.maintenance, name)
		if err != nil {
			return err
		}
		defer lock.Release(ctx)
	}
	return restore.Drop(ctx, p.target, p.maintenance, name)
}

// refuseCrowded refuses a server that would have no connection left for others
// while the drill loads.
func (o Options) refuseCrowded(ctx context.Context, conn *pgx.Conn) error {
	var free int
	err := conn.QueryRow(ctx, `SELECT current_setting('max_connections')::int
		- current_setting('superuser_reserved_connections')::int
		- (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')`).Scan(&free)
	if err != nil {
		return postgres.Wrap(err, "count the free connections")
	}
	// Besides those that load: the one that makes and drops, and pg_restore's.
	if need := o.jobs() + 3; free < need {
		return pgmedic.Errorf(pgmedic.KindConflict, "drill when fewer clients are connected, or with fewer connections (backup.jobs)",
			"the server has %d free connections, and the drill needs %d", free, need)
	}
	return nil
}

// jobs is how many connections load and check.
func (o Options) jobs() int { return postgres.Jobs(o.Jobs) }

// copied is the target with the copy's name.
func (p *place) copied() postgres.Target { return p.target.WithDatabase(p.database) }
