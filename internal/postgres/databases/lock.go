package databases

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// RunLock keeps two backups, restores or rollbacks of one database apart,
// whichever hosts they run on. It is an advisory lock on a session of its own
// and ends with the session, however that ends.
//
// Any role that may log in can take that lock, and so keep every run away. A lock
// that an ordinary role can't take would be one on an object that pgmedic's role
// owns, or one that a backup's role has no right to either: who may only read can
// lock nothing else. Nor is a holder left out of account for its role or its name:
// a name can be chosen, and a run that takes a live one for an impostor would work
// beside it. So a holder always counts, and is named with all that the server
// tells, with the statement that ends it.
type RunLock struct{ conn *pgx.Conn }

// AcquireRunLock takes the lock of a database by name, at once or not at all.
// Advisory locks are kept apart by database: everyone takes it in the maintenance
// database, or a role that may not connect there in the database itself, and then
// looks whether the same lock is held in another. Two that come at one moment by
// different databases may so refuse each other; they never both go on. A lock that
// another run holds is an error of KindConflict.
func AcquireRunLock(ctx context.Context, t postgres.Target, maintenance, database string) (*RunLock, error) {
	conn, err := postgres.Connect(ctx, t.WithDatabase(maintenance))
	// Any other failure may not befall the next run, which would then take the
	// lock in another database and believe itself alone.
	switch postgres.Code(err) {
	case "3D000", "42501", "28000", "55000": // not there, or not for us
		conn, err = postgres.Connect(ctx, t.WithDatabase(database))
	}
	if err != nil {
		return nil, err
	}
	var got bool
	err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", runLockKey(database)).Scan(&got)
	switch {
	case err != nil:
		err = postgres.Wrap(err, "take the lock that keeps two runs apart")
	case !got:
		if err = RefuseRunLocked(ctx, conn, database); err == nil { // it has let go in this moment
			err = lockedError(database, nil)
		}
	default: // in a statement of its own, which sees whoever came before
		err = RefuseRunLocked(ctx, conn, database)
	}
	if err != nil {
		CloseUnlocked(ctx, conn) // it may hold the lock, and was refused for another's
		return nil, err
	}
	return &RunLock{conn: conn}, nil
}

// runLockKey is the key of a database's lock; all 64 bits of it are used.
func runLockKey(database string) int64 {
	sum := sha256.Sum256([]byte("pgmedic run lock: " + database))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// LockHolder is a session that holds an advisory lock.
type LockHolder struct {
	PID int32
	// Role, Application, Client and Database say whose it is and where it is
	// connected; empty where this role may not know. Client is empty, too, for a
	// session over a socket.
	Role, Application, Client, Database string
	// Connected is when the session began, Changed when it began or ended its last
	// statement; nil where this role may not know.
	Connected, Changed *time.Time
}

// String names the holder on one line.
func (h LockHolder) String() string {
	parts := []string{fmt.Sprintf("pid %d", h.PID)}
	for _, p := range []struct{ what, value string }{
		{"role", h.Role}, {"application", h.Application}, {"client", h.Client}, {"database", h.Database},
	} {
		if p.value != "" {
			parts = append(parts, fmt.Sprintf("%s %q", p.what, p.value))
		}
	}
	const layout = "2006-01-02 15:04:05Z"
	if h.Connected != nil {
		parts = append(parts, "connected since "+h.Connected.UTC().Format(layout))
	}
	if h.Changed != nil {
		parts = append(parts, "last active "+h.Changed.UTC().Format(layout))
	}
	return strings.Join(parts, ", ")
}

// End is the statement that ends the holder.
func (h LockHolder) End() string {
	return fmt.Sprintf("SELECT pg_catalog.pg_terminate_backend(%d);", h.PID)
}

// RunLockHolder returns who holds the run lock of a database, in whichever database
// that session is, or nil. It takes no lock.
func RunLockHolder(ctx context.Context, conn *pgx.Conn, database string) (*LockHolder, error) {
	h, err := advisoryHolder(ctx, conn, runLockKey(database))
	return h, postgres.Wrap(err, "look whether another run works on the database")
}

// advisoryHolder returns another session that holds an advisory lock of 64 bits.
func advisoryHolder(ctx context.Context, conn *pgx.Conn, key int64) (*LockHolder, error) {
	holders, err := postgres.Collect[LockHolder](ctx, conn, `
SELECT l.pid, coalesce(a.usename::text, '') AS role, coalesce(a.application_name, '') AS application,
	coalesce(pg_catalog.host(a.client_addr), '') AS client, coalesce(d.datname::text, '') AS database,
	a.backend_start AS connected, a.state_change AS changed
FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
	LEFT JOIN pg_catalog.pg_database AS d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_catalog.pg_backend_pid()
	AND (l.classid::int8 << 32) | l.objid::int8 = $1 ORDER BY a.backend_start LIMIT 1`, key)
	if err != nil || len(holders) == 0 {
		return nil, err
	}
	return &holders[0], nil
}

func lockedError(database string, h *LockHolder) error {
	what, hint := fmt.Sprintf("another pgmedic run works on database %q", database), "run the command again"
	if h != nil {
		if !strings.HasPrefix(h.Application, "pgmedic") {
			what = fmt.Sprintf("a session that does not call itself pgmedic holds the lock of another pgmedic run on database %q", database)
		}
		what += ": " + h.String()
		hint = "wait for it to end; if you do not know that run, end it: " + h.End()
	}
	return pgmedic.Errorf(pgmedic.KindConflict, hint, "%s", what)
}

// RefuseRunLocked returns the error that AcquireRunLock would, where another
// session holds the lock in whichever database, and takes none.
func RefuseRunLocked(ctx context.Context, conn *pgx.Conn, database string) error {
	h, err := RunLockHolder(ctx, conn, database)
	if err == nil && h != nil {
		err = lockedError(database, h)
	}
	return err
}

// TryNamedLock takes an advisory lock of conn's database by a name, at once or not
// at all, for as long as the session lasts. Where another session holds it, that is
// returned.
func TryNamedLock(ctx context.Context, conn *pgx.Conn, name string) (got bool, holder *LockHolder, err error) {
	var key int64
	err = conn.QueryRow(ctx, "SELECT k, pg_catalog.pg_try_advisory_lock(k) FROM pg_catalog.hashtextextended($1, 0) AS k", name).Scan(&key, &got)
	if err == nil && !got {
		holder, err = advisoryHolder(ctx, conn, key)
	}
	return got, holder, postgres.Wrap(err, "take the lock "+name)
}

// Release gives the lock back and ends its session.
func (l *RunLock) Release(ctx context.Context) { CloseUnlocked(ctx, l.conn) }

// CloseUnlocked closes a session and gives its advisory locks back before. A
// server that only gets the end of the session may take a moment to notice, and
// the next run would find the locks still held.
func CloseUnlocked(ctx context.Context, conn *pgx.Conn) {
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_, _ = conn.Exec(unlock, "SELECT pg_catalog.pg_advisory_unlock_all()") // a broken session has let go
	postgres.Close(ctx, conn)
}
