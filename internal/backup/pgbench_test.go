package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestUnderPgbench takes backups by both methods while pgbench, with foreign
// keys, writes, and tables beside come, go and are rewritten: each copy is of one
// moment.
func TestUnderPgbench(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	pgbench(t, dsn, "--initialize", "--scale=2", "--foreign-keys", "--quiet")
	// Rows that never change, in a table that is rewritten all the time.
	fixture.Exec(t, dsn, "CREATE TABLE constant AS SELECT n AS id, repeat('x', 100) AS filler FROM generate_series(1, 5000) AS n")
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	load.Go(func() { pgbenchUntil(ctx, t, dsn) })
	load.Go(func() { churn(ctx, t, dsn) })
	history := func() int64 { return fixture.Query[int64](t, dsn, "SELECT count(*) FROM pgbench_history")[0] }
	for _, method := range testkit.SomeOf(t, 2, []backup.Method{backup.Parallel{Jobs: 4}, backup.Parallel{Jobs: 4}, backup.Parallel{Jobs: 4}, backup.Plain{}}) {
		before := history()
		testkit.Eventually(t, time.Minute, "pgbench writes", func() bool { return history() > before })
		o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
		o.Method, o.LockTimeout = method, 5*time.Second
		b, err := backup.Take(ctx, o)
		// A migration that queues up before pg_dump has its locks is a reason to
		// fail, and to try again; it is never one to lose rows.
		for tries := 0; err != nil && tries < 100 && inTheWay(err); tries++ {
			b, err = backup.Take(ctx, o)
		}
		if err != nil {
			t.Fatal(err)
		}
		copied := restored(t, server, o.Catalog, b)
		sums := fixture.Query[string](t, copied, `SELECT concat_ws(' ', (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
			(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history))`)[0]
		if s := strings.Fields(sums); len(s) != 4 || s[0] != s[1] || s[1] != s[2] || s[2] != s[3] {
			t.Errorf("%s: the sums of accounts, tellers, branches and history are %s", method.Name(), sums)
		}
		counts := fixture.Query[string](t, copied, `SELECT concat_ws(' ', (SELECT count(*) FROM pgbench_accounts), (SELECT count(*) FROM constant),
			(SELECT count(*) >= $1 FROM pgbench_history))`, before)[0]
		if counts != "200000 5000 t" {
			t.Errorf("%s: accounts, constant rows, and whether the history is whole: %s", method.Name(), counts)
		}
	}
}

// inTheWay reports whether a backup failed for a migration.
func inTheWay(err error) bool {
	return pgmedic.KindOf(err) == pgmedic.KindConflict
}

func pgbench(t *testing.T, dsn string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(server.BinDir(), "pgbench"), append(args, dsn)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench: %v: %s", err, out)
	}
}

// pgbenchUntil writes until ctx ends.
func pgbenchUntil(ctx context.Context, t *testing.T, dsn string) {
	cmd := exec.CommandContext(ctx, filepath.Join(server.BinDir(), "pgbench"), "--client=3", "--time=600", "--no-vacuum", dsn)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		t.Errorf("pgbench: %v: %s", err, &said)
	}
}

// churn makes, drops, truncates and rewrites tables until ctx ends, as migrations
// should: each change waits a moment for a backup that is in its way, and is
// tried again.
func churn(ctx context.Context, t *testing.T, dsn string) {
	conn := testkit.Connect(t, dsn)
	if _, err := conn.Exec(ctx, "SET lock_timeout = '100ms'"); err != nil {
		t.Error(err)
	}
	for n := 0; ctx.Err() == nil; n++ {
		for _, sql := range []string{
			fmt.Sprintf("CREATE TABLE side_%d AS SELECT generate_series(1, 100) AS id", n),
			fmt.Sprintf("ALTER TABLE constant ALTER id TYPE %s", []string{"bigint", "int"}[n%2]),
			fmt.Sprintf("TRUNCATE side_%d", n),
			fmt.Sprintf("DROP TABLE side_%d", n),
			"SELECT pg_sleep(0.3)",
		} {
			_, err := conn.Exec(ctx, sql)
			var refused *pgconn.PgError
			if errors.As(err, &refused) && refused.Code == "55P03" {
				continue
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", sql, err)
				return
			}
		}
	}
}
