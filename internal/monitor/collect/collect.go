// Package collect reads a server into a Reading, within limits that the server does not
// feel.
package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// oldestVersionNum is the oldest server_version_num that Collect reads.
const oldestVersionNum = 120000

// Conn begins transactions. *pgx.Conn and *pgxpool.Pool are Conns. The caller
// sets application_name, and closes it.
type Conn interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Options say how to look.
type Options struct {
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// TopTables is how many tables are measured exactly by size, and how many
	// by dead rows; zero is 20.
	TopTables int
	// QueryTimeout ends a query that takes longer; zero is 5 s.
	QueryTimeout time.Duration
	// LockTimeout ends a query that waits longer for a lock; zero is 50 ms.
	LockTimeout time.Duration
	// Patience is for how long after its QueryTimeout a server may say nothing:
	// then it, or the network between, is taken for gone. Zero is 10 s.
	Patience time.Duration
	// Interval is how long to watch: counters are read twice, that far apart,
	// and active sessions sampled each second. Zero looks once.
	Interval time.Duration
	// ExactBloat measures the bloat of the largest tables and indexes with the
	// extension pgstattuple, which reads much of them.
	ExactBloat bool
	// Plans asks for the plans of the statements that take the most time, from
	// PostgreSQL 16. Nothing of them is executed.
	Plans bool
	// DatabaseOnly reads what is of the database and nothing of the server, for
	// Reading.Databases.
	DatabaseOnly bool
	// Sections are those to read, of Sections(); nil is all. What their
	// judgements need of another section is read, too.
	Sections []string
	// Numbers leaves out what only a reader of words wants: the texts of
	// statements, which make up most of what a look can cost.
	Numbers bool
	// ShowLiterals keeps the literals of statements, which can be passwords and
	// people's data.
	ShowLiterals bool
	// Logger gets a line for each query at debug level; nil logs nothing.
	Logger *slog.Logger
}

// withDefaults returns the options with each zero filled in.
func (o Options) withDefaults() Options {
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
	if o.Patience <= 0 {
		o.Patience = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Collect looks at the database that conn is connected to, in one read-only
// transaction that holds no snapshot between its queries. A query that fails
// is listed in the Reading's Skipped and loses nothing else. An error means
// that the server could not be reached, is too old, or went away. Of one that
// went away there is a Reading beside the error, if any of it was read; what it
// lacks is among its Skipped.
func Collect(ctx context.Context, conn Conn, opts Options) (*reading.Reading, error) {
	opts = opts.withDefaults()
	began := opts.Now()
	var before *collector
	if opts.Interval > 0 {
		before = newCollector(opts)
		if err := before.run(ctx, conn, func(q query) bool { return q.counts && opts.wanted(q) }); err != nil {
			return nil, err
		}
		if err := before.watch(ctx, conn); err != nil {
			return nil, err
		}
	}
	c := newCollector(opts)
	if before != nil {
		c.follow(before)
	}
	err := c.run(ctx, conn, opts.wanted)
	if err != nil && (c.asked == 0 || ctx.Err() != nil) {
		return nil, err
	}
	c.finish()
	c.reading.Cost.Seconds = opts.Now().Sub(began).Seconds() - opts.Interval.Seconds()
	c.reading.Cost.Seconds = max(0, c.reading.Cost.Seconds)
	return c.reading, err
}

// collector fills one Reading.
type collector struct {
	opts    Options
	reading *reading.Reading
	tx      pgx.Tx
	// describes is true where pgx has the server describe the statements of a
	// batch before it sends any: a savepoint among them would come too late for
	// what fails there.
	describes bool
	// asked counts the queries that were answered.
	asked int
}

func newCollector(opts Options) *collector {
	return &collector{opts: opts, reading: &reading.Reading{
		Format:   reading.ReadingFormat,
		TakenAt:  opts.Now().UTC(),
		Sections: opts.Sections,
		Literals: opts.ShowLiterals,
		Cost:     reading.Cost{Connections: 1},
		Skipped:  []reading.Skipped{},
	}}
}

// follow takes over what the look at the beginning of an interval found.
func (c *collector) follow(before *collector) {
	c.reading.Before = before.reading
	c.reading.Waits, before.reading.Waits = before.reading.Waits, nil
	c.reading.Cost = before.reading.Cost
}

// finish leaves out what only the look itself needed, and says what a role
// without pg_monitor did not see, although its queries succeeded.
func (c *collector) finish() {
	r := c.reading
	r.May = nil
	if c.opts.Numbers {
		// What asks for the texts chooses among the statements otherwise.
		statementIDs(r, c.opts)
		if s := r.Statements; s != nil {
			for i := range s.Items {
				s.Items[i].Query = "" // read only to know our own
			}
		}
	}
	if b := r.Before; b != nil {
		b.May = nil
		// What could not be read then can't be read now, and is said there.
		b.Statements, b.Skipped, b.Cost = nil, []reading.Skipped{}, reading.Cost{}
		b.Server.Settings, b.Server.Extensions = nil, nil
	}
	if newer := postgres.NewerThanKnown(r.Server.VersionNum); newer != "" && !c.opts.DatabaseOnly && r.Wants(reading.SectionOverview) {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionOverview, Query: "what is new in this version",
			Reason: newer + ": neither is it judged whether the server lacks fixes, nor until when it gets them",
		})
	}
	r.Truncated = truncated(r)
	if r.Waits != nil {
		r.Waits.Statements = r.Waits.Statements[:min(len(r.Waits.Statements), waitsShown)]
		r.Waits.Seconds = c.opts.Interval.Seconds()
	}
	hidden := func(section, query, reason string) {
		r.Skipped = append(r.Skipped, reading.Skipped{Section: section, Query: query, Reason: reason + ": grant it pg_monitor"})
	}
	if s := r.Connections; s != nil && s.Hidden > 0 {
		hidden(reading.SectionConnections, "sessions of other roles",
			fmt.Sprintf("the state of %s is hidden from this role", words.Plural(s.Hidden, "session")))
	}
	if s := r.Connections; s != nil && slices.ContainsFunc(s.ByState, func(c reading.StateCount) bool { return c.State == "disabled" }) {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionConnections, Query: "what sessions do", Reason: "track_activities is off in some: set it on",
		})
	}
	if p := r.Replication; p != nil {
		if slices.ContainsFunc(p.Standbys, func(s reading.Standby) bool { return s.State == "" }) {
			hidden(reading.SectionReplication, "state of standbys", "it is hidden from this role")
		}
	}
	if s := r.Statements; s != nil {
		if slices.ContainsFunc(s.Items, func(x reading.Statement) bool { return x.QueryID == "" }) {
			hidden(reading.SectionStatements, "statements of other roles", "their texts are hidden from this role")
		}
	}
}

// watch samples what active sessions wait for, each second of the interval.
func (c *collector) watch(ctx context.Context, conn Conn) error {
	end := time.NewTimer(c.opts.Interval)
	defer end.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		if err := c.run(ctx, conn, func(q query) bool { return q.name == waitSample }); err != nil {
			return err
		}
		select {
		case <-second.C:
		case <-end.C:
			return nil
		case <-ctx.Done():
			return c.lost(ctx, "watch", ctx.Err())
		}
	}
}

// run opens the transaction, asks the wanted queries and closes it again.
func (c *collector) run(ctx context.Context, conn Conn, wanted func(query) bool) (err error) {
	// Read committed, whatever the server's default: a snapshot held for the
	// whole look would keep VACUUM from removing rows meanwhile.
	opening, cancel := context.WithTimeout(ctx, c.opts.QueryTimeout+c.opts.Patience)
	defer cancel()
	c.tx, err = conn.BeginTx(opening, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly})
	if err != nil {
		return c.lost(ctx, "begin to look", err)
	}
	c.reading.Cost.Statements += 2
	defer func() {
		// A commit: the server counts rollbacks, and those of looks would in time
		// be found as an application's. A commit of reads that fails changes nothing.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = c.tx.Commit(end)
	}()
	switch c.tx.Conn().Config().DefaultQueryExecMode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
	default:
		c.describes = true
	}
	if err := c.setLimits(opening); err != nil {
		return err
	}
	if c.reading.Server.VersionNum == 0 {
		if err := c.readServer(opening); err != nil {
			return err
		}
	}
	return c.askAll(ctx, wanted)
}

// askAll asks the wanted queries in their order. Once the connection is gone
// those that are left are skipped.
func (c *collector) askAll(ctx context.Context, wanted func(query) bool) error {
	var lost error
	for _, q := range choose(queryTable(), c.reading.Server.VersionNum) {
		if !wanted(q) || q.only != "" && q.only != c.reading.Server.Role {
			continue
		}
		if lost != nil {
			c.skip(q, "the server was gone by then")
			continue
		}
		if lost = c.ask(ctx, q); lost != nil {
			c.skip(q, "the server went away")
		}
	}
	return lost
}

// setLimits bounds what a query may cost the server. The search path keeps
// functions and operators of the database's users out of our queries. A database
// in SQL_ASCII holds bytes as they came, and refuses to send those that are no
// UTF-8 to who asks for that.
func (c *collector) setLimits(ctx context.Context) error {
	const set = `select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
		pg_catalog.set_config('lock_timeout', $1, true),
		pg_catalog.set_config('statement_timeout', $2, true),
		pg_catalog.set_config('jit', 'off', true),
		case when pg_catalog.current_setting('server_encoding') operator(pg_catalog.=) 'SQL_ASCII'
		     then pg_catalog.set_config('client_encoding', 'SQL_ASCII', true) end,
		pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)`
	c.reading.Cost.Statements++
	if _, err := c.tx.Exec(ctx, set, milliseconds(c.opts.LockTimeout), milliseconds(c.opts.QueryTimeout)); err != nil {
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
	c.reading.Cost.Statements++
	if err := scanServer(rows, c.reading); err != nil {
		return c.lost(ctx, "read the server's version", err)
	}
	if n := c.reading.Server.VersionNum; n < oldestVersionNum {
		return pgmedic.Errorf(pgmedic.KindUsage, "upgrade the server; PostgreSQL 11 has had no fixes since 2023",
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
	var args []any
	if q.args != nil {
		args = q.args(c.reading, c.opts)
	}
	if q.listed && isEmptyList(args[0]) {
		return nil
	}
	began := c.opts.Now()
	c.reading.Cost.Queries++
	var err error
	if q.deep != nil {
		err = q.deep(ctx, c, q)
	} else {
		err = c.askInSavepoint(ctx, q, args)
	}
	c.opts.Logger.DebugContext(ctx, "query", "name", q.name, "section", q.section,
		"seconds", c.opts.Now().Sub(began).Seconds(), "ok", err == nil)
	if err == nil {
		c.asked++
		return nil
	}
	if ctx.Err() != nil || c.tx.Conn().IsClosed() {
		return c.lost(ctx, "read "+q.name, err)
	}
	c.skip(q, reasonFor(err, q, c.opts))
	return nil
}

// askInSavepoint runs one query so that its failure leaves the transaction
// usable. They go to the server at once: over a long line each
// journey would cost more than most queries.
func (c *collector) askInSavepoint(ctx context.Context, q query, args []any) error {
	ctx, cancel := context.WithTimeout(ctx, q.limit(c.opts)+c.opts.Patience)
	defer cancel()
	batch := &pgx.Batch{}
	if c.describes {
		c.reading.Cost.Statements++
		if _, err := c.tx.Exec(ctx, "savepoint pgmedic"); err != nil {
			return err
		}
	} else {
		batch.Queue("savepoint pgmedic")
	}
	batch.Queue(`select pg_catalog.set_config('statement_timeout', $1, true)`, milliseconds(q.limit(c.opts)))
	batch.Queue(q.text(c.reading), args...)
	batch.Queue("release savepoint pgmedic")
	c.reading.Cost.Statements += batch.Len()
	err := c.answer(c.tx.SendBatch(ctx, batch), batch.Len(), q)
	if err != nil && c.tx.Conn().PgConn().TxStatus() == 'E' {
		c.reading.Cost.Statements++
		if _, back := c.tx.Exec(ctx, "rollback to savepoint pgmedic"); back != nil {
			return errors.Join(err, back)
		}
	}
	return err
}

// answer reads what a batch of statements says, whose last but one is the query.
func (c *collector) answer(results pgx.BatchResults, statements int, q query) (err error) {
	// Close reads what was not read, and says again what failed before.
	defer func() {
		if closing := results.Close(); err == nil {
			err = closing
		}
	}()
	for range statements - 2 {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	return q.scan(rows, c.reading)
}

// inSavepoint does something within limits of time, on both sides, and takes it
// back if it fails.
func (c *collector) inSavepoint(ctx context.Context, timeout time.Duration, do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout+c.opts.Patience)
	defer cancel()
	c.reading.Cost.Statements += 3
	savepoint, err := c.tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = savepoint.Rollback(ctx) }()
	if _, err := savepoint.Exec(ctx, `select pg_catalog.set_config('statement_timeout', $1, true)`, milliseconds(timeout)); err != nil {
		return err
	}
	if err := do(ctx, savepoint); err != nil {
		return err
	}
	return savepoint.Commit(ctx)
}

// skip records that a query was not answered.
func (c *collector) skip(q query, reason string) {
	// Of an extension that isn't there, one query says so for all.
	if q.extension != "" && !q.single && slices.ContainsFunc(c.reading.Skipped, func(s reading.Skipped) bool {
		return s.Section == q.section && s.Reason == reason
	}) {
		return
	}
	c.reading.Skipped = append(c.reading.Skipped, reading.Skipped{Section: q.section, Query: q.name, Reason: reason})
}

// lost makes the error of a look that cannot go on. Of what the server said,
// only the SQLSTATE goes into the message.
func (c *collector) lost(ctx context.Context, doing string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return pgmedic.Errorf(pgmedic.KindInterrupted, "", "%s: %w", doing, cause)
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "check that the server is up and takes connections",
		"%s: %w", doing, withoutData(err))
}

// milliseconds writes a duration as a PostgreSQL setting, never as 0, which
// would mean no limit.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%dms", max(1, d.Milliseconds()))
}
