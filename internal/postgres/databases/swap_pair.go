package databases

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// swapped is one of the databases of a swap.
type swapped struct {
	Name           string
	OID            uint32
	Open, Invalid  bool
	Owner          string
	OwnerSuperuser bool
	// Ours is true where this role may rename it.
	Ours     bool
	Prepared int
}

// swapPair is what a swap finds before it touches anything.
type swapPair struct {
	me             string
	live, incoming *swapped // live is nil where there is none
}

// readSwapPair looks at both databases of a swap, and refuses what would let one of
// its statements fail once clients have been cut off.
func readSwapPair(ctx context.Context, conn *pgx.Conn, o *SwapOptions) (*swapPair, error) {
	p := &swapPair{}
	var superuser, creates bool
	err := conn.QueryRow(ctx, "SELECT rolname::text, rolsuper, rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user").
		Scan(&p.me, &superuser, &creates)
	if err != nil {
		return nil, postgres.Wrap(err, "read the role's privileges")
	}
	found, err := postgres.Collect[swapped](ctx, conn, `
SELECT d.datname::text AS name, d.oid, d.datallowconn AS open, d.datconnlimit = -2 AS invalid, r.rolname::text AS owner,
	r.rolsuper AS owner_superuser, pg_catalog.pg_has_role(d.datdba, 'USAGE') AS ours,
	(SELECT count(*) FROM pg_catalog.pg_prepared_xacts AS x WHERE x.database = d.datname)::int AS prepared
FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_roles AS r ON r.oid = d.datdba WHERE d.datname IN ($1, $2, $3)`, o.Live, o.Incoming, o.Kept)
	if err != nil {
		return nil, postgres.Wrap(err, "look at the databases of the swap")
	}
	for i := range found {
		d := &found[i]
		switch d.Name {
		case o.Live:
			p.live = d
		case o.Incoming:
			p.incoming = d
		default:
			return nil, pgmedic.Errorf(pgmedic.KindConflict, "run the command again", "swap: database %q exists already", d.Name)
		}
	}
	switch {
	case p.incoming == nil:
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "", "swap: there is no database %q", o.Incoming)
	case o.LiveExists && p.live == nil:
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "run the command again", "swap: database %q is gone", o.Live)
	case !o.LiveExists && p.live != nil:
		return nil, pgmedic.Errorf(pgmedic.KindConflict, "run the command again", "swap: there is a database %q now", o.Live)
	}
	for _, d := range []*swapped{p.live, p.incoming} {
		if err := d.refuse(p.me, superuser, creates); err != nil {
			return nil, err
		}
	}
	if err := p.refuseOwner(ctx, conn, o.IncomingOwner, superuser); err != nil {
		return nil, err
	}
	return p, p.refuseSessions(ctx, conn, superuser)
}

// refuseOwner refuses to give the incoming database to a role that this one can't
// become.
func (p *swapPair) refuseOwner(ctx context.Context, conn *pgx.Conn, owner string, superuser bool) error {
	if owner == "" || superuser {
		return nil
	}
	var member bool
	err := conn.QueryRow(ctx, "SELECT coalesce(bool_or(pg_catalog.pg_has_role(oid, 'MEMBER')), false) FROM pg_catalog.pg_roles WHERE rolname = $1", owner).Scan(&member)
	if err != nil {
		return postgres.Wrap(err, "look for the owner of the incoming database")
	}
	if !member {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "GRANT "+sqltext.QuoteIdent(owner)+" TO "+sqltext.QuoteIdent(p.me)+";",
			"swap: role %s is not a member of %s, which owned database %q", sqltext.QuoteIdent(p.me), sqltext.QuoteIdent(owner), p.incoming.Name)
	}
	return nil
}

// refuse says why a database can't be renamed, or nil.
func (d *swapped) refuse(me string, superuser, creates bool) error {
	switch {
	case d == nil:
		return nil
	case d.Invalid:
		return pgmedic.Errorf(pgmedic.KindConflict, "finish that: DROP DATABASE "+sqltext.QuoteIdent(d.Name)+";",
			"swap: database %q is what an interrupted DROP DATABASE left", d.Name)
	case d.Prepared > 0:
		return pgmedic.Errorf(pgmedic.KindConflict, "COMMIT PREPARED or ROLLBACK PREPARED it; it blocks the rename",
			"swap: database %q has a prepared transaction", d.Name)
	case !superuser && !creates:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "ALTER ROLE "+sqltext.QuoteIdent(me)+" CREATEDB;",
			"swap: role %s may not rename databases", sqltext.QuoteIdent(me))
	case !superuser && !d.Ours:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "GRANT "+sqltext.QuoteIdent(d.Owner)+" TO "+sqltext.QuoteIdent(me)+";",
			"swap: role %s is not a member of %s, which owns database %q", sqltext.QuoteIdent(me), sqltext.QuoteIdent(d.Owner), d.Name)
	}
	return nil
}

// refuseSessions refuses databases with sessions that this role may not end: they
// would keep the rename from taking place, and the others would be ended for
// nothing.
func (p *swapPair) refuseSessions(ctx context.Context, conn *pgx.Conn, superuser bool) error {
	if superuser {
		return nil
	}
	oids := []uint32{p.incoming.OID}
	if p.live != nil {
		oids = append(oids, p.live.OID)
	}
	type session struct {
		PID        int32
		Role, Name string
	}
	// Workers of the server's own have no role; the rename itself ends those. One
	// that is about to end by itself is waited for, for as long as the rename would
	// (CountOtherDBBackends of the server: 5 s).
	patience, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var held []session
	for {
		var err error
		held, err = postgres.Collect[session](ctx, conn, `
SELECT a.pid, a.usename::text AS role, a.datname::text AS name
FROM pg_catalog.pg_stat_activity AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.usesysid
WHERE a.datid = ANY ($1) AND a.pid <> pg_catalog.pg_backend_pid() AND (r.rolsuper
	OR NOT (pg_catalog.pg_has_role(a.usesysid, 'USAGE') OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))) ORDER BY a.pid`, oids)
		if err != nil || len(held) == 0 {
			return postgres.Wrap(err, "look at the sessions of the databases")
		}
		select {
		case <-tick.C:
			continue
		case <-patience.Done():
		}
		break
	}
	if ctx.Err() != nil {
		return fmt.Errorf("wait for the sessions of the databases: %w", context.Cause(ctx))
	}
	words := make([]string, len(held))
	for i, s := range held {
		words[i] = fmt.Sprintf("%d of %s", s.PID, sqltext.QuoteIdent(s.Role))
	}
	return pgmedic.Errorf(pgmedic.KindConflict, "stop these clients, or swap as a role that may end them, then run the command again",
		"swap: database %q is in use by sessions that role %s may not end: %s", held[0].Name, sqltext.QuoteIdent(p.me), strings.Join(words, ", "))
}

// statements are those of the swap's transaction.
func (p *swapPair) statements(o SwapOptions) ([]string, error) {
	live, incoming, kept := sqltext.QuoteIdent(o.Live), sqltext.QuoteIdent(o.Incoming), sqltext.QuoteIdent(o.Kept)
	closed := o.Closed
	var statements []string
	if p.live != nil {
		closed = closed || !p.live.Open
		o.Story.Closed = !p.live.Open
		statements = append(statements, "ALTER DATABASE "+live+" RENAME TO "+kept, "ALTER DATABASE "+kept+" ALLOW_CONNECTIONS false")
		owner := p.incoming.Owner
		if o.IncomingOwner != "" {
			owner = o.IncomingOwner
		}
		if p.live.Owner != owner && p.live.Owner != p.me && !p.live.OwnerSuperuser {
			// Or no rollback could tell it from one that anybody made; see Kept.Distrust.
			o.Story.Owner = p.live.Owner
			statements = append(statements, "ALTER DATABASE "+kept+" OWNER TO "+sqltext.QuoteIdent(p.me))
		}
		story, err := storySQL(o.Kept, o.Story)
		if err != nil {
			return nil, err
		}
		statements = append(statements, story)
	}
	statements = append(statements, "ALTER DATABASE "+incoming+" RENAME TO "+live)
	if p.incoming.Open == closed {
		statements = append(statements, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", live, !closed))
	}
	statements = append(statements, commentSQL(o.Live, o.IncomingComment))
	if o.IncomingOwner != "" && o.IncomingOwner != p.incoming.Owner { // last: from then on it may be another's
		statements = append(statements, "ALTER DATABASE "+live+" OWNER TO "+sqltext.QuoteIdent(o.IncomingOwner))
	}
	return statements, nil
}
