package backup_test

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestLatestOfAWrongClock: the host that took the last backup has a clock that is a
// day behind, and the latest is that backup all the same.
func TestLatestOfAWrongClock(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	c := fixture.NewCatalog(t)
	last := ""
	for _, shift := range []time.Duration{0, -24 * time.Hour} {
		fixture.Exec(t, dsn, "CREATE TABLE IF NOT EXISTS t (n int)", "INSERT INTO t VALUES (1)")
		o := fixture.BackupOptions(t, dsn, c)
		o.Now = func() time.Time { return time.Now().Add(shift) }
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if b.SnapshotTimeline != 1 {
			t.Errorf("timeline %d", b.SnapshotTimeline)
		}
		last = b.ID
	}
	e, err := c.Get(t.Context(), catalog.Latest, catalog.Filter{Now: time.Now()})
	if err != nil || e.Backup.ID != last {
		t.Errorf("latest is %v, %v, want %s", e.Backup, err, last)
	}
}

// TestBackupHurried: timeouts of a database that its own statements do not meet end
// no backup.
func TestBackupHurried(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+fixture.Target(t, dsn).Database()+" SET "+name+" = '1ms'")
	}
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
			o.Method = method
			if b, err := backup.Take(t.Context(), o); err != nil || b.Rows() != 1000 {
				t.Errorf("%+v, %v", b, err)
			}
		})
	}
}
