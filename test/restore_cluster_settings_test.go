package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestRestoreClusterSettings: the server's commits wait for a standby that a restored cluster does
// not have, it has a subscription, and it writes its process id into a file elsewhere. The restored
// cluster commits, takes nothing from the publisher and leaves that file alone; the statements that
// the restore prints bring the settings back.
func TestRestoreClusterSettings(t *testing.T) {
	b := newWALBench(t, 0)
	pid := filepath.Join(b.tmp, "old.pid")
	if err := os.WriteFile(pid, []byte("of the old server"), 0o666); err != nil {
		t.Fatal(err)
	}
	const names = `ANY 1 (gone, "Gone 2")`
	config := filepath.Join(b.server.DataDir(), "postgresql.conf")
	text := string(readFile(t, config)) + "\ninclude 'more.conf'\nexternal_pid_file = '" + pid + "'\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.server.DataDir(), "more.conf"), []byte("synchronous_standby_names = 'nobody'\nrecovery_target_time = '2020-01-01 00:00:00+00'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.sql("INSERT INTO ledger VALUES (1, 'before')")
	b.sql("CREATE SUBSCRIPTION taken CONNECTION 'host=" + b.tmp + " dbname=none' PUBLICATION p WITH (connect = false)")
	b.sql("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
	row, _ := b.physical(0)
	c := b.restoring()
	env := c.env
	c.env = c.reader
	foreseen := c.ok("restore", "--target-dir", filepath.Join(c.place, "data"), "--to-backup", "--dry-run")
	c.env = env
	for _, want := range []string{"sets aside synchronous_standby_names = 'ANY 1 (gone, \"Gone 2\")': every commit", "sets aside max_logical_replication_workers", "sets aside external_pid_file", "listens on no address, port "} {
		if !strings.Contains(strings.Join(strings.Fields(foreseen), " "), want) {
			t.Errorf("the plan lacks %q: %s", want, foreseen)
		}
	}
	port := c.port()
	done, r := c.restore(0, "data", row.ID, "--to-backup", "--start", "--start-port", port)
	if done.Started == nil || !done.Started.Running || len(done.Done.Configuration.SetAside) != 3 {
		t.Fatalf("restore: %s%s", r.stdout, r.stderr)
	}
	conn := testkit.Connect(t, "host="+c.server.SocketDir()+" port="+port+" user=postgres dbname=postgres")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "INSERT INTO ledger VALUES (2, 'after')"); err != nil {
		t.Fatalf("commit on the restored cluster: %v", err)
	}
	if got := c.asks(port, "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN ('synchronous_standby_names', 'max_logical_replication_workers', 'external_pid_file', 'archive_mode')"); got != "archive_mode=off external_pid_file= max_logical_replication_workers=0 synchronous_standby_names=" {
		t.Errorf("settings: %s", got)
	}
	if got := c.asks(port, "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%'"); got != "0" {
		t.Errorf("%s processes of logical replication", got)
	}
	if got := string(readFile(t, pid)); got != "of the old server" {
		t.Errorf("the file of the old server is %q", got)
	}
	undo := done.Done.Configuration.SetAside[0].Undo
	for _, statement := range strings.SplitAfter(undo, "; ") {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	testkit.Eventually(t, time.Minute, "the setting is back", func() bool {
		return c.asks(port, "SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'") == names
	})
}
