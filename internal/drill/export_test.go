package drill

import (
	"context"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// CheckCopy holds a database of a server against a backup as a drill does with the
// copy that it has restored.
func CheckCopy(ctx context.Context, o Options, server postgres.Target, database string, refusedSettings []string) (*pgmedic.Receipt, error) {
	o.Logger = discard(o.Logger)
	p := &place{maintenance: "postgres", database: database}
	if err := p.look(ctx, server); err != nil {
		return nil, err
	}
	p.scratch.Kind = pgmedic.ScratchPrivate
	r := &rehearsal{Options: o, place: p, receipt: &pgmedic.Receipt{Counted: &pgmedic.Counted{}}, refusedSettings: refusedSettings}
	return r.receipt, r.judge(ctx, r.check(ctx))
}
