package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// oldestVersionNum is the oldest server_version_num that Collect reads.
const oldestVersionNum = 120000

// Conn begins transactions. *pgx.Conn and *pgxpool.Pool are Conns. The caller
// sets application_name, and closes it.
type Conn interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// CollectOptions say how to look.
type CollectOptions struct {
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// TopTables is how many tables are measured exactly by size, and how many
	// by dead rows; zero is 20.
	TopTables int
	// QueryTimeout ends a query that takes longer; zero is 5 s.
	QueryTimeout time.Duration
	// LockTimeout ends a query that waits longer for a lock; zero is 50 ms.
	LockTimeout time.Duration
	// Logger gets a line for each query at debug level; nil logs nothing.
	Logger *slog.Logger
}

// withDefaults returns the options with each zero filled in.
func (o CollectOptions) withDefaults() CollectOptions {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.TopTables <= 0 {
		o.TopTables = 20
	}
	if o.QueryTimeout <= 0 {
		o.QueryTimeout = 5 * time.Second
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 50 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Collect looks at the database that conn is connected to, in one read-only
// transaction that holds no snapshot between its queries. A query that fails
// is listed in the Reading's Skipped and loses nothing else. An error means
// that there is no Reading: the server could not be reached, is too old, or
// went away.
func Collect(ctx context.Context, conn Conn, opts CollectOptions) (*Reading, error) {
	opts = opts.withDefaults()
	began := opts.Now()
	c := &collector{opts: opts, reading: &Reading{
		Format:  ReadingFormat,
		TakenAt: began.UTC(),
		Skipped: []Skipped{},
	}}
	if err := c.run(ctx, conn); err != nil {
		return nil, err
	}
	c.noteHiddenSessions()
	c.reading.Cost.Seconds = opts.Now().Sub(began).Seconds()
	return c.reading, nil
}

// collector fills one Reading.
type collector struct {
	opts    CollectOptions
	reading *Reading
	tx      pgx.Tx
}

// run opens the transaction, asks every query and closes it again.
func (c *collector) run(ctx context.Context, conn Conn) (err error) {
	// Read committed, whatever the server's default: a snapshot held for the
	// whole look would keep VACUUM from removing rows meanwhile.
	c.tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly})
	if err != nil {
		return c.lost(ctx, "begin to look", err)
	}
	defer func() {
		// The answers are in; a failing rollback of reads changes nothing.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = c.tx.Rollback(end)
	}()
	if err := c.setLimits(ctx); err != nil {
		return err
	}
	if err := c.readServer(ctx); err != nil {
		return err
	}
	for _, q := range choose(queryTable(), c.reading.Server.VersionNum) {
		if err := c.ask(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// setLimits bounds what a query may cost the server. The search path keeps
// functions and operators of the database's users out of our queries.
func (c *collector) setLimits(ctx context.Context) error {
	const set = `select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
		pg_catalog.set_config('lock_timeout', $1, true),
		pg_catalog.set_config('jit', 'off', true),
		pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)`
	if _, err := c.tx.Exec(ctx, set, milliseconds(c.opts.LockTimeout)); err != nil {
		return c.lost(ctx, "set limits", err)
	}
	return nil
}

// readServer reads what the choice of queries depends on.
func (c *collector) readServer(ctx context.Context) error {
	rows, err := c.tx.Query(ctx, sqlServer)
	if err != nil {
		return c.lost(ctx, "read the server's version", err)
	}
	c.reading.Cost.Queries++
	if err := scanServer(rows, c.reading); err != nil {
		return c.lost(ctx, "read the server's version", err)
	}
	if n := c.reading.Server.VersionNum; n < oldestVersionNum {
		return pgmedic.Errorf(pgmedic.KindUsage, "Upgrade the server; PostgreSQL 11 has had no fixes since 2023.",
			"look at PostgreSQL %s: pgmedic reads 12 and later", c.reading.Server.Version)
	}
	return nil
}

// ask runs one query behind a savepoint. Its error means that the connection
// is gone; a query that merely failed is skipped.
func (c *collector) ask(ctx context.Context, q query) error {
	if reason := q.unfit(c.reading); reason != "" {
		c.skip(q, reason)
		return nil
	}
	began := c.opts.Now()
	c.reading.Cost.Queries++
	err := c.askInSavepoint(ctx, q)
	c.opts.Logger.DebugContext(ctx, "query", "name", q.name, "section", q.section,
		"seconds", c.opts.Now().Sub(began).Seconds(), "ok", err == nil)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || c.tx.Conn().IsClosed() {
		return c.lost(ctx, "read "+q.name, err)
	}
	c.skip(q, reasonFor(err, q, c.opts))
	return nil
}

// askInSavepoint runs one query so that its failure leaves the transaction
// usable.
func (c *collector) askInSavepoint(ctx context.Context, q query) error {
	savepoint, err := c.tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = savepoint.Rollback(ctx) }()
	timeout := c.opts.QueryTimeout
	if q.timeout > 0 {
		timeout = q.timeout
	}
	if _, err := savepoint.Exec(ctx, `select pg_catalog.set_config('statement_timeout', $1, true)`, milliseconds(timeout)); err != nil {
		return err
	}
	var args []any
	if q.args != nil {
		args = q.args(c.reading, c.opts)
	}
	rows, err := savepoint.Query(ctx, q.sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if err := q.scan(rows, c.reading); err != nil {
		return err
	}
	return savepoint.Commit(ctx)
}

// skip records that a query was not answered.
func (c *collector) skip(q query, reason string) {
	c.reading.Skipped = append(c.reading.Skipped, Skipped{Section: q.section, Query: q.name, Reason: reason})
}

// noteHiddenSessions says what a role without pg_monitor did not see, although
// its query succeeded.
func (c *collector) noteHiddenSessions() {
	if s := c.reading.Connections; s != nil && s.Hidden > 0 {
		c.reading.Skipped = append(c.reading.Skipped, Skipped{
			Section: SectionConnections,
			Query:   "sessions of other roles",
			Reason:  fmt.Sprintf("the state of %d sessions is hidden from this role: grant it pg_monitor", s.Hidden),
		})
	}
}

// lost makes the error of a look that cannot go on. Of what the server said,
// only the SQLSTATE goes into the message.
func (c *collector) lost(ctx context.Context, doing string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return pgmedic.Errorf(pgmedic.KindInterrupted, "", "%s: %w", doing, cause)
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "Check that the server is up and takes connections.",
		"%s: %w", doing, withoutData(err))
}

// milliseconds writes a duration as a PostgreSQL setting, never as 0, which
// would mean no limit.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%dms", max(1, d.Milliseconds()))
}
