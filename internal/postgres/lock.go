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
// Advisory locks are kept apart by database, so everyone takes it in the
// maintenance database; a role that may not connect there locks in the
// database itself, which still keeps its own runs apart. A lock that another
// run holds is an error of KindConflict.
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
	sum := sha256.Sum256([]byte("pgmedic run lock: " + database))
	key := int64(binary.BigEndian.Uint64(sum[:8])) // all 64 bits are the key
	var got bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", key).Scan(&got); err != nil {
		Close(ctx, conn)
		return nil, Wrap(err, "take the lock that keeps two runs apart")
	}
	if !got {
		Close(ctx, conn)
		return nil, pgmedic.Errorf(pgmedic.KindConflict,
			"wait for it to end; it holds an advisory lock, which pg_locks shows",
			"another pgmedic run works on database %q", database)
	}
	return &RunLock{conn: conn}, nil
}

// Release gives the lock back and ends its session. A server that is told only
// that the session ends may take a moment to notice, and the next run would find
// the lock held by nobody.
func (l *RunLock) Release(ctx context.Context) {
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_, _ = l.conn.Exec(unlock, "SELECT pg_catalog.pg_advisory_unlock_all()") // a broken session has let go
	Close(ctx, l.conn)
}
