package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// RunLock keeps two backups, restores or rollbacks of one database apart,
// whichever hosts they run on. It is an advisory lock on a session of its own
// and ends with the session, however that ends.
type RunLock struct{ conn *pgx.Conn }

// AcquireRunLock takes the lock of a database by name, at once or not at all.
// Advisory locks are kept apart by database: everyone takes it in the maintenance
// database, or a role that may not connect there in the database itself, and then
// looks whether the same lock is held in another. Two that come at one moment by
// different databases may so refuse each other; they never both go on. A lock that
// another run holds is an error of KindConflict.
func AcquireRunLock(ctx context.Context, t Target, maintenance, database string) (*RunLock, error) {
	conn, err := Connect(ctx, t.WithDatabase(maintenance))
	// Any other failure may not befall the next run, which would then take the
	// lock in another database and believe itself alone.
	switch Code(err) {
	case "3D000", "42501", "28000", "55000": // not there, or not for us
		conn, err = Connect(ctx, t.WithDatabase(database))
	}
	if err != nil {
		return nil, err
	}
	var got bool
	err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", runLockKey(database)).Scan(&got)
	switch {
	case err != nil:
		err = Wrap(err, "take the lock that keeps two runs apart")
	case !got:
		err = lockedError(database)
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

func lockedError(database string) error {
	return pgmedic.Errorf(pgmedic.KindConflict,
		"wait for it to end; it holds an advisory lock, which pg_locks shows",
		"another pgmedic run works on database %q", database)
}

// RefuseRunLocked returns the error that AcquireRunLock would, where another
// session holds the lock in whichever database, and takes none.
func RefuseRunLocked(ctx context.Context, conn *pgx.Conn, database string) error {
	var held bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
		WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_catalog.pg_backend_pid()
			AND (classid::int8 << 32) | objid::int8 = $1)`, runLockKey(database)).Scan(&held)
	if err == nil && held {
		return lockedError(database)
	}
	return Wrap(err, "look whether another run works on the database")
}

// Release gives the lock back and ends its session.
func (l *RunLock) Release(ctx context.Context) { CloseUnlocked(ctx, l.conn) }

// CloseUnlocked closes a session and gives its advisory locks back before. A
// server that is told only that the session ends may take a moment to notice, and
// the next run would find the locks held by nobody.
func CloseUnlocked(ctx context.Context, conn *pgx.Conn) {
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_, _ = conn.Exec(unlock, "SELECT pg_catalog.pg_advisory_unlock_all()") // a broken session has let go
	Close(ctx, conn)
}
