package pool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TxOptions say what kind of transaction InTx runs. The zero TxOptions are those
// of the server, for writing.
type TxOptions struct {
	// IsoLevel, AccessMode and DeferrableMode are pgx's.
	IsoLevel       pgx.TxIsoLevel
	AccessMode     pgx.TxAccessMode
	DeferrableMode pgx.TxDeferrableMode
	// Read runs the transaction read-only and where Read would: on a standby
	// that is fit for it, else on the primary.
	Read bool
	// StatementTimeout replaces the pool's QueryTimeout for the statements of
	// this transaction, on the server, too, and behind a pooler. Zero means to
	// leave it.
	StatementTimeout time.Duration
}

// begin is the statement that begins the transaction.
func (o TxOptions) begin() pgx.TxOptions {
	opts := pgx.TxOptions{IsoLevel: o.IsoLevel, AccessMode: o.AccessMode, DeferrableMode: o.DeferrableMode}
	if o.Read {
		opts.AccessMode = pgx.ReadOnly
	}
	if o.StatementTimeout > 0 {
		sql := "begin"
		if o.IsoLevel != "" {
			sql += " isolation level " + string(o.IsoLevel)
		}
		sql += " " + string(opts.AccessMode) + " " + string(o.DeferrableMode)
		// In one round trip with the begin, and gone with the transaction.
		opts.BeginQuery = sql + "; set local statement_timeout = " + strconv.FormatInt(max(o.StatementTimeout.Milliseconds(), 1), 10)
	}
	return opts
}

var errManaged = errors.New("InTx commits or rolls back by itself: return nil or an error")

// InTx runs a function in a transaction and commits it if the function returns
// nil, else rolls it back and returns the function's error. If PostgreSQL rolled
// it back because of another transaction (a serialization failure, a deadlock),
// or if the connection was lost before the COMMIT was sent, the whole of it runs
// again: the function must do nothing outside the transaction that may not be
// done twice, and it must return, or wrap, the errors of the transaction.
//
// If the connection is lost during the COMMIT, it is not known whether it was
// committed: InTx then returns an ErrOutcomeUnknown and does not run it again.
//
// The function must use only the transaction, not keep it, and leave commit and
// rollback to InTx; savepoints, by Begin of the transaction, are its own. If it
// panics, the transaction is rolled back.
func (db *DB) InTx(ctx context.Context, opts TxOptions, fn func(tx pgx.Tx) error) error {
	a := attempt{read: opts.Read, readOnly: opts.AccessMode == pgx.ReadOnly}
	if opts.Read {
		a.purpose = forEither // the transaction says so itself
	}
	began := time.Now()
	for {
		err := db.txOnce(ctx, &a, opts, fn)
		if err != nil && db.again(ctx, &a, err) {
			continue
		}
		if a.at != nil {
			a.at.durations.observe(opTx, outcomeOf(err, false), time.Since(began))
		}
		return err
	}
}

// txOnce runs the transaction once. In the attempt it says whether it is known
// not to be committed.
func (db *DB) txOnce(ctx context.Context, a *attempt, opts TxOptions, fn func(tx pgx.Tx) error) error {
	a.whole, a.foreign = true, false
	conn, err := db.acquire(ctx, a, opQuery)
	if err != nil {
		return err
	}
	defer conn.Release()
	sessionOf(conn.Conn()).setLimit(opts.StatementTimeout)
	inner, err := conn.BeginTx(ctx, opts.begin())
	if err != nil {
		return db.statementFailed(ctx, a, conn, beginError(err), noEffects)
	}
	tx := newTx(db, conn, inner)
	tx.managed, tx.attempt = true, a
	returned := false
	defer func() {
		if !returned { // it panicked, or ended its goroutine
			tx.rollBack(ctx)
		}
	}()
	err = fn(tx)
	returned = true
	if err != nil {
		// An io.EOF, say, of something else: it would be read again.
		a.foreign = Classify(err) == ClassConnectionLost && sqlState(err) == "" && !conn.Conn().IsClosed()
		tx.rollBack(ctx)
		return err
	}
	if err = inner.Commit(ctx); err != nil {
		err = tx.commitFailed(ctx, err)
	} else {
		err = confirmed(conn.Conn())
	}
	a.whole = !errors.Is(err, ErrOutcomeUnknown)
	return err
}

// Begin begins a transaction on the primary, as pgxpool's does. The caller ends
// it; InTx is safer.
func (db *DB) Begin(ctx context.Context) (pgx.Tx, error) { return db.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx begins a transaction on the primary, as pgxpool's does. It is tried
// again until it has begun, never after that. A Commit whose answer was lost
// returns an ErrOutcomeUnknown.
func (db *DB) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	a := &attempt{whole: true}
	for {
		tx, err := db.beginOnce(ctx, a, opts)
		if err == nil {
			return tx, nil
		}
		if !db.again(ctx, a, err) {
			return nil, err
		}
	}
}

func (db *DB) beginOnce(ctx context.Context, a *attempt, opts pgx.TxOptions) (*transaction, error) {
	conn, err := db.acquire(ctx, a, opQuery)
	if err != nil {
		return nil, err
	}
	begun := false
	defer func() {
		if !begun { // or a tracer panicked
			conn.Release()
		}
	}()
	inner, err := conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, db.statementFailed(ctx, a, conn, beginError(err), noEffects)
	}
	begun = true
	tx := newTx(db, conn, inner)
	tx.attempt.readOnly = opts.AccessMode == pgx.ReadOnly
	return tx, nil
}

func beginError(err error) error { return fmt.Errorf("begin: %w", err) }

// transaction is one on a connection of the pool. It explains errors, and, if it
// is not managed by InTx, gives the connection back at its end.
type transaction struct {
	pgx.Tx
	db      *DB
	conn    *pgxpool.Conn
	attempt *attempt
	managed bool
	// lent: the connection is somebody's who keeps it after the transaction.
	lent  bool
	ended bool
}

func newTx(db *DB, conn *pgxpool.Conn, inner pgx.Tx) *transaction {
	return &transaction{Tx: inner, db: db, conn: conn, attempt: &attempt{}}
}

// Exec is pgx's.
func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := t.Tx.Exec(ctx, sql, args...)
	return tag, t.explain(ctx, err)
}

// Query is pgx's.
func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	inner, err := t.Tx.Query(ctx, sql, args...)
	return &explainedRows{Rows: inner, by: t, ctx: ctx}, t.explain(ctx, err)
}

// QueryRow is pgx's.
func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return &explainedRow{row: t.Tx.QueryRow(ctx, sql, args...), by: t, ctx: ctx}
}

// Commit is pgx's.
func (t *transaction) Commit(ctx context.Context) error {
	if t.managed {
		return errManaged
	}
	defer t.release()
	if err := t.Tx.Commit(ctx); err != nil {
		return t.commitFailed(ctx, err)
	}
	return confirmed(t.conn.Conn())
}

// Rollback is pgx's.
func (t *transaction) Rollback(ctx context.Context) error {
	if t.managed {
		return errManaged
	}
	defer t.release()
	return t.Tx.Rollback(ctx)
}

func (t *transaction) release() {
	t.ended = true
	if !t.lent {
		t.conn.Release()
	}
}

func (t *transaction) explain(ctx context.Context, err error) error {
	if err == nil || t.ended || errors.Is(err, pgx.ErrTxClosed) {
		return err // after its end the connection is another's
	}
	return t.db.statementFailed(ctx, t.attempt, t.conn, err, noEffects)
}

// rollBack rolls back whatever the state of the caller's context. An error does
// not matter: the connection is closed then, which rolls back as well.
func (t *transaction) rollBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.db.config.CancelGrace)
	defer cancel()
	_ = t.Tx.Rollback(ctx)
}

// commitFailed tells the three ways apart in which a COMMIT fails: it was not
// sent, the server refused it, or that is not known.
func (t *transaction) commitFailed(ctx context.Context, err error) error {
	if errors.Is(err, pgx.ErrTxClosed) || errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	open := !t.conn.Conn().IsClosed()
	unsent := sessionOf(t.conn.Conn()).unsent(err)
	err = t.db.statementFailed(ctx, t.attempt, t.conn, fmt.Errorf("commit: %w", err), noEffects)
	var pgErr *pgconn.PgError
	// Pgx closes the connection after a COMMIT that the server refused, if it is
	// still in the transaction; the answer was an error all the same, and not
	// the end of the session.
	refused := errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR"
	if open || unsent || refused {
		return err
	}
	return outcomeUnknownError(err)
}

// explainer explains the errors of its statements.
type explainer interface {
	explain(ctx context.Context, err error) error
}

// explainedRows and explainedRow explain the errors of queries in transactions and
// batches.
type explainedRows struct {
	pgx.Rows
	by  explainer
	ctx context.Context //nolint:containedctx // that of the query, which lasts until its rows are read
}

// Err is pgx's.
func (r *explainedRows) Err() error { return r.by.explain(r.ctx, r.Rows.Err()) }

type explainedRow struct {
	row pgx.Row
	by  explainer
	ctx context.Context //nolint:containedctx // that of the query, which lasts until its row is read
}

// Scan is pgx's.
func (r *explainedRow) Scan(dest ...any) error {
	err := r.row.Scan(dest...)
	if err == nil || err == pgx.ErrNoRows { //nolint:errorlint // pgx returns it as it is
		return err
	}
	return r.by.explain(r.ctx, err)
}
