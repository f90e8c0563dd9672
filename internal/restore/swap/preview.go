package swap

import (
	"cmp"
	"context"
	"strings"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Foresee says what Replace would do, or restore.Into where o.Live is empty. It makes
// nothing and takes no lock. Of what either refuses it finds all that is known before
// a row is loaded, except for the privileges that single objects take.
func Foresee(ctx context.Context, o Options) (*restore.Preview, error) {
	if o.Live == "" {
		return restore.Foresee(ctx, o.Options)
	}
	o.Into, o.Of = databases.DerivedName(o.Live, "__restore_"+newSuffix()), o.Live
	o.Maintenance = cmp.Or(o.Maintenance, postgres.DefaultMaintenance)
	p, err := restore.Foresee(ctx, o.Options)
	if err != nil {
		return nil, err
	}
	if o.SafetyBackup != nil {
		p.Steps = append(p.Steps, "safety backup")
	}
	p.Steps = append(p.Steps, "swap")
	run := &swapRun{}
	if run.admin, err = postgres.ConnectAdmin(ctx, o.Target, o.Maintenance); err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, run.admin)
	if run.server, err = postgres.ReadServer(ctx, run.admin); err != nil {
		return nil, err
	}
	if err := run.foresee(ctx, &o, p); err != nil {
		return nil, err
	}
	return p, nil
}

// foresee checks for what would keep the live database from being replaced.
func (r *swapRun) foresee(ctx context.Context, o *Options, p *restore.Preview) error {
	if err := o.refuseName(); err != nil {
		p.Check("database", "", err)
		return nil
	}
	if err := o.refusePart(); err != nil {
		p.Check("scope", "", err)
	}
	p.Check("source", "the backup is of this server and database", o.RefuseOther(r.server, o.Live, o.FromServer))
	if err := p.Look(ctx, "lock", "no other run works on the database", databases.RefuseRunLocked(ctx, r.admin, o.Live)); err != nil {
		return err
	}
	left, err := r.leftovers(ctx, o, "")
	if err != nil || len(left) > 0 {
		if err := p.Look(ctx, "leftovers", strings.Join(left, ", ")+" of restores that were killed would be dropped", err); err != nil {
			return err
		}
	}
	switch err := r.refuseFullDisk(ctx, o); {
	case postgres.Code(err) != "" || ctx.Err() != nil:
		return err
	case err != nil:
		p.Check("disk", "", err)
	}
	plan, err := r.plan(ctx, o, databases.DerivedName(o.Live, "__before_"+newSuffix()))
	p.Sessions, p.Outside, p.Standbys = plan.Sessions, plan.Outside, plan.Standbys
	good := words.Plural(plan.Sessions, "session") + " would be ended, and the old database be kept"
	if !plan.LiveExists {
		good = "the database does not exist: nothing would be kept"
	}
	return p.Look(ctx, "swap", good, err)
}
