package restore

import (
	"cmp"
	"context"
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
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
	Sessions int `json:"sessions,omitempty"`
	// Standbys and Outside are what a swap does not carry over, or what goes on by
	// itself.
	Standbys []string            `json:"standbys,omitempty"`
	Outside  []databases.Outside `json:"outside,omitempty"`
	// Checks are the checks that were made, in that order.
	Checks []pgmedic.Check `json:"checks"`
	// DataDirectory is the server's own folder, where the role may know it.
	DataDirectory string `json:"-"`

	obstacle error
}

// Obstacle returns the first error that the restore would end with, or nil.
func (p *Preview) Obstacle() error { return p.obstacle }

// Check adds a check to the preview: that of what was found to be good, or failed with
// err. The first error is the Obstacle.
func (p *Preview) Check(name, good string, err error) {
	c := pgmedic.Check{Name: name, Outcome: pgmedic.OutcomeOK, Detail: good}
	if err != nil {
		c.Outcome, c.Detail, c.Hint = pgmedic.OutcomeFailed, err.Error(), pgmedic.HintOf(err)
		if p.obstacle == nil {
			p.obstacle = err
		}
	}
	p.Checks = append(p.Checks, c)
}

// Foresee says what Into would do. Where o.Of is set it says what making a copy
// that is to take that name would do; obstacles to taking the name are the caller's to
// find. It makes nothing and takes no lock. Of what a restore refuses it finds all
// that is known before a row is loaded, except for the privileges that single objects
// take.
func Foresee(ctx context.Context, o Options) (*Preview, error) {
	p := &Preview{Swap: o.Of != "", Database: cmp.Or(o.Of, o.Into)}
	s, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close(ctx)
	p.fill(&o)
	p.Check("programs", "pg_restore is installed, if the backup needs it", s.loader.Ready(ctx, s))
	if err := p.Look(ctx, "globals", "the backup's roles and tablespaces can be read", s.checkUnread(ctx)); err != nil {
		return nil, err
	}
	if err := p.needs(ctx, s); err != nil {
		return nil, err
	}
	if !p.Swap {
		if err := p.into(ctx, s); err != nil {
			return nil, err
		}
	}
	if settings, err := postgres.ReadSettings(ctx, s.admin, []string{"data_directory"}); err == nil {
		p.DataDirectory = settings["data_directory"]
	}
	return p, nil
}

// Look is Check, except for an error that says nothing about the restore: a server
// that fails to answer, or an interrupt.
func (p *Preview) Look(ctx context.Context, name, good string, err error) error {
	if postgres.Code(err) != "" || ctx.Err() != nil {
		return err
	}
	p.Check(name, good, err)
	return nil
}

// into checks whether the name is free.
func (p *Preview) into(ctx context.Context, s *Session) error {
	left, err := halfLoaded(ctx, s.admin, s.Into)
	if err == nil && left == nil {
		err = s.refuseTaken(ctx)
	}
	if err == nil {
		err = databases.RefuseRunLocked(ctx, s.admin, s.Into)
	}
	good := fmt.Sprintf("%q is free", s.Into)
	if left != nil {
		good = fmt.Sprintf("%q is what a restore left half done, and would be dropped", s.Into)
	}
	return p.Look(ctx, "database", good, err)
}

func (p *Preview) fill(o *Options) {
	p.BackupID, p.DatabaseBytes = o.Backup.ID, o.Backup.Database.SizeBytes
	p.Steps = []string{"create", "load", "analyze", "properties", "compare"}
	if o.Globals != GlobalsNone {
		p.Steps = append([]string{"globals"}, p.Steps...)
	}
	for _, object := range o.Backup.Objects {
		switch object.Role {
		case pgmedic.RoleDump, pgmedic.RoleSchema, pgmedic.RoleInventory, pgmedic.RoleSums:
			p.FetchBytes += object.StoredBytes
		case pgmedic.RoleRest, pgmedic.RolePack:
			if !o.Without.Rows {
				p.FetchBytes += object.StoredBytes
			}
		case pgmedic.RoleGlobals, pgmedic.RoleRecovery:
		}
	}
}

// needs checks for what the new database needs from the server.
func (p *Preview) needs(ctx context.Context, s *Session) error {
	words := fmt.Sprintf("PostgreSQL %s, as it was", s.server.Version)
	if was := s.Backup.Server; was.Major() != s.server.Major() {
		words = fmt.Sprintf("PostgreSQL %s, the backup is of %s: definitions can't be compared", s.server.Version, was.Version)
	}
	p.Check("server", words, databases.RefuseStandby(s.server))
	// They make what is missing on a scratch server only.
	s.CreateRoles, s.TablespaceDir = false, nil
	roles, tablespaces, then := s.prepareRoles, s.prepareTablespaces, ""
	if s.Globals != GlobalsNone {
		after, err := s.foreseeGlobals(ctx)
		if err != nil {
			return err
		}
		p.Globals, then = &after.Globals, ", once those in the globals are made"
		roles = func(context.Context) error { return after.roles }
		tablespaces = func(context.Context) error { return after.tablespaces }
	}
	for _, need := range []struct {
		name, good string
		look       func(context.Context) error
	}{
		{"roles", fmt.Sprintf("the %d that the backup needs exist%s", len(s.Backup.Database.Roles), then), roles},
		{"privileges", "the role may make the database and give it to its owner", s.refusePowerless},
		{"tablespaces", "those that the backup needs exist" + then, tablespaces},
		{"extensions", fmt.Sprintf("the %d that the backup needs exist", len(s.Backup.Database.Extensions)), s.refuseMissingExtensions},
		{"security labels", fmt.Sprintf("the %d providers that the backup needs are loaded", len(s.Backup.Database.LabelProviders)), s.prepareLabels},
	} {
		if need.name == "security labels" && len(s.Backup.Database.LabelProviders) == 0 {
			continue
		}
		if err := p.Look(ctx, need.name, need.good, need.look(ctx)); err != nil {
			return err
		}
	}
	if err := p.privileged(ctx, s); err != nil {
		return err
	}
	return p.bound(ctx, s)
}
