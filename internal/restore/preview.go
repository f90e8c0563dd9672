package restore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Preview is what a restore would do, and what stands in its way.
type Preview struct {
	BackupID string `json:"backup_id"`
	// Database is the one that would be made, or replaced.
	Database string `json:"database"`
	Swap     bool   `json:"swap"`
	// FetchBytes would be read from the store; DatabaseBytes is how large the
	// database was when it was backed up.
	FetchBytes    int64    `json:"fetch_bytes"`
	DatabaseBytes int64    `json:"database_bytes"`
	Steps         []string `json:"steps"`
	// Globals is what would be made of the backup's roles and tablespaces, where
	// that is asked for.
	Globals *Globals `json:"globals,omitempty"`
	// Sessions would be ended by a swap.
	Sessions int             `json:"sessions,omitempty"`
	Checks   []pgmedic.Check `json:"checks"`
	// DataDirectory is the server's own folder, where the role may know it.
	DataDirectory string `json:"-"`

	obstacle error
}

// Obstacle returns the first error that the restore would end with, or nil.
func (p *Preview) Obstacle() error { return p.obstacle }

func (p *Preview) check(name, good string, err error) {
	c := pgmedic.Check{Name: name, Outcome: pgmedic.OutcomeOK, Detail: good}
	if err != nil {
		c.Outcome, c.Detail, c.Hint = pgmedic.OutcomeFailed, err.Error(), pgmedic.HintOf(err)
		if p.obstacle == nil {
			p.obstacle = err
		}
	}
	p.Checks = append(p.Checks, c)
}

// Foresee says what Into would do, or Replace where o.Live is set. It makes
// nothing and takes no lock.
func Foresee(ctx context.Context, o SwapOptions) (*Preview, error) {
	p := &Preview{Swap: o.Live != "", Database: o.Into}
	if p.Swap {
		p.Database, o.Into = o.Live, postgres.DerivedName(o.Live, "__restore_"+newSuffix())
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	loader, err := loaderOf(o.Backup.Method)
	if err != nil {
		return nil, err
	}
	admin, err := postgres.Connect(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, admin)
	run := &swapRun{admin: admin}
	if run.server, err = postgres.ReadServer(ctx, admin); err != nil {
		return nil, err
	}
	p.fill(&o)
	s := &Session{Options: o.Options}
	p.check("programs", "psql or pg_restore, as the backup needs it, is there", loader.Ready(ctx, s))
	if err := p.needs(ctx, s, admin, run.server); err != nil {
		return nil, err
	}
	if p.Swap {
		if err := p.swap(ctx, run, &o); err != nil {
			return nil, err
		}
	}
	if settings, err := postgres.ReadSettings(ctx, admin, []string{"data_directory"}); err == nil {
		p.DataDirectory = settings["data_directory"]
	}
	return p, nil
}

func (p *Preview) fill(o *SwapOptions) {
	p.BackupID, p.DatabaseBytes = o.Backup.ID, o.Backup.Database.SizeBytes
	p.Steps = []string{"create", "load", "analyze", "properties", "compare"}
	if o.Globals != GlobalsNone {
		p.Steps = append([]string{"globals"}, p.Steps...)
	}
	for _, object := range o.Backup.Objects {
		switch object.Role {
		case pgmedic.RoleDump, pgmedic.RoleSchema, pgmedic.RoleInventory:
			p.FetchBytes += object.StoredBytes
		case pgmedic.RoleRest, pgmedic.RolePack:
			if !o.Without.Rows {
				p.FetchBytes += object.StoredBytes
			}
		case pgmedic.RoleGlobals, pgmedic.RoleRecovery:
		}
	}
	if p.Swap {
		if o.SafetyBackup != nil {
			p.Steps = append(p.Steps, "safety backup")
		}
		p.Steps = append(p.Steps, "swap")
	}
}

// needs looks for what the new database needs of the server.
func (p *Preview) needs(ctx context.Context, s *Session, admin *pgx.Conn, server pgmedic.Server) error {
	var standby error
	if server.Standby {
		standby = pgmedic.Errorf(pgmedic.KindConflict, "name the primary", "the server is a standby and can't be written to")
	}
	words := fmt.Sprintf("PostgreSQL %s, as it was", server.Version)
	if was := s.Backup.Server; was.Major() != server.Major() {
		words = fmt.Sprintf("PostgreSQL %s, the backup is of %s: definitions can't be compared", server.Version, was.Version)
	}
	p.check("server", words, standby)
	if !p.Swap {
		exists, err := postgres.DatabaseExists(ctx, admin, s.Into)
		if err != nil {
			return err
		}
		var taken error
		if exists {
			taken = pgmedic.Errorf(pgmedic.KindConflict, "choose another name with --into, or drop it first", "database %q exists already", s.Into)
		}
		p.check("database", fmt.Sprintf("%q is free", s.Into), taken)
	}
	// They make what is missing on a scratch server only.
	s.CreateRoles, s.TablespaceDir = false, nil
	roles, tablespaces, then := s.prepareRoles, s.prepareTablespaces, ""
	if s.Globals != GlobalsNone {
		after, err := s.foreseeGlobals(ctx, admin)
		if err != nil {
			return err
		}
		p.Globals, then = &after.Globals, ", once those are made that the globals have"
		roles = func(context.Context, *pgx.Conn) error { return after.roles }
		tablespaces = func(context.Context, *pgx.Conn) error { return after.tablespaces }
	}
	for _, need := range []struct {
		name, good string
		look       func(context.Context, *pgx.Conn) error
	}{
		{"roles", fmt.Sprintf("the %d that the backup needs are there%s", len(s.Backup.Database.Roles), then), roles},
		{"tablespaces", "those that the backup needs are there" + then, tablespaces},
		{"extensions", fmt.Sprintf("the %d that the backup needs are there", len(s.Backup.Database.Extensions)), s.refuseMissingExtensions},
	} {
		err := need.look(ctx, admin)
		if postgres.Code(err) != "" || ctx.Err() != nil {
			return err
		}
		p.check(need.name, need.good, err)
	}
	return nil
}

// swap looks for what would keep the live database from being replaced.
func (p *Preview) swap(ctx context.Context, run *swapRun, o *SwapOptions) error {
	if o.Live == o.Maintenance {
		p.check("database", "", pgmedic.Errorf(pgmedic.KindUsage, "set database.maintenance_database to another one",
			"database %q is the one to connect through and can't be swapped", o.Live))
		return nil
	}
	if err := o.refusePart(); err != nil {
		p.check("scope", "", err)
	}
	p.check("source", "the backup is of this server and database", run.refuseOtherServer(o))
	plan, err := run.plan(ctx, o, postgres.DerivedName(o.Live, "__before_"+newSuffix()))
	if postgres.Code(err) != "" || ctx.Err() != nil {
		return err
	}
	p.Sessions = plan.Sessions
	good := fmt.Sprintf("%d sessions would be ended, and the old database be kept", plan.Sessions)
	if err == nil && !plan.LiveExists {
		good = "the database does not exist: nothing would be kept"
	}
	p.check("swap", good, err)
	return nil
}
