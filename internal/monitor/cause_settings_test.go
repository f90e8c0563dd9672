package monitor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

func testSettingsThatLoseDataAreFoundAndMended(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	restored(t, conn, "track_counts")
	exec(t, conn, "ALTER SYSTEM SET track_counts = off", "SELECT pg_reload_conf()")
	paste(t, conn, comes(t, "track-counts-off", "track_counts", findings).Fix)
	goes(t, "track-counts-off", "track_counts", findings)
	restored(t, conn, "fsync")
	paste(t, conn, comes(t, "fsync-off", "fsync", findings).Fix)
	goes(t, "fsync-off", "fsync", findings)
}

// testMemorySettings states the machine's memory, as report.server_memory_mb does.
func testMemorySettingsAreFoundAndMended(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	restored(t, conn, "shared_buffers")
	restored(t, conn, "effective_cache_size")
	findings := func() []pgmedic.Finding {
		r := look(t, conn, collect.Options{})
		r.Host = &reading.Host{MemoryBytes: 128 << 30, Source: "stated"}
		r.Size.DatabaseBytes = 64 << 30
		return judge.Analyse(r, nil, reading.DefaultThresholds())
	}
	f := comes(t, "effective-cache-size", "effective_cache_size", findings)
	if !strings.Contains(f.Fix, "'98304MB'") || evidenceOf(f, "memory_source") != "stated" {
		t.Errorf("%+v", f)
	}
	paste(t, conn, f.Fix)
	goes(t, "effective-cache-size", "effective_cache_size", findings)
	// This one takes a restart, and until then the finding says what waits for it.
	mustNotFind(t, findings(), "restart-pending", "shared_buffers")
	paste(t, conn, comes(t, "shared-buffers-size", "shared_buffers", findings).Fix)
	comes(t, "restart-pending", "shared_buffers", findings)
	exec(t, conn, "ALTER SYSTEM RESET shared_buffers", "SELECT pg_reload_conf()")
	goes(t, "restart-pending", "shared_buffers", findings)
	fits := func() []pgmedic.Finding {
		r := look(t, conn, collect.Options{})
		r.Host = &reading.Host{MemoryBytes: 512 << 20, Source: "stated"}
		return judge.Analyse(r, nil, reading.DefaultThresholds())
	}
	mustNotFind(t, fits(), "shared-buffers-size", "shared_buffers")
}

func testPasswordsKeptAsMD5AreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "SET password_encryption = md5", "CREATE ROLE old_fashioned LOGIN PASSWORD 'synthetic'")
	defer exec(t, conn, "DROP ROLE old_fashioned")
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	paste(t, conn, mustFind(t, findings(), "passwords-md5", "server").Fix)
	exec(t, conn, "SET password_encryption = 'scram-sha-256'", "ALTER ROLE old_fashioned PASSWORD 'synthetic'")
	mustNotFind(t, findings(), "passwords-md5", "server")
}

func testADatabaseNearWraparoundIsFoundAndFrozen(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY)")
	// 1.4 thousand million transactions ago, which is 65 % of what there is.
	// Autovacuum may come to freeze it at any moment, and then it is made so again.
	grow := func() {
		exec(t, conn, "UPDATE pg_database SET datfrozenxid = ((pg_catalog.txid_current() + 4294967296 - 1400000000) % 4294967296)::text::xid "+
			"WHERE datname = current_database()")
	}
	object := "database " + look(t, conn, collect.Options{}).Database
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	f := comes(t, "wraparound-database", object, func() []pgmedic.Finding {
		grow()
		return findings()
	})
	if f.Severity != pgmedic.SeverityWarn || f.Database != "" {
		t.Errorf("%+v", f)
	}
	paste(t, conn, f.Fix)
	goes(t, "wraparound-database", object, findings)
}

func testAVersionWithoutFixesIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	r := look(t, conn, collect.Options{})
	if r.Server.VersionNum/10000 <= 13 {
		mustFind(t, judge.Analyse(r, nil, reading.DefaultThresholds()), "version-unsupported", "server")
	}
	// As it was on the day after its first release.
	r.TakenAt = noon.AddDate(-8, 0, 0)
	mustNotFind(t, judge.Analyse(r, nil, reading.DefaultThresholds()), "version-unsupported", "server")
	r.TakenAt = noon.AddDate(20, 0, 0)
	mustFind(t, judge.Analyse(r, nil, reading.DefaultThresholds()), "version-unsupported", "server")
}

// testAServerWithChecksums also has a small pg_stat_statements.
func testAServerWithChecksums(t *testing.T, _ string, other *scratch.Server) {
	server := scratchtest.New(t, scratch.Options{Major: other.Major(), InitArgs: []string{"--data-checksums"}, Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "300",
	}})
	t.Run("A damaged page is found", func(t *testing.T) { testADamagedPageIsFound(t, server) })
	t.Run("Statements that are thrown away are found", func(t *testing.T) {
		testStatementsThatAreThrownAwayAreFound(t, scratchtest.Database(t, server))
	})
}

// testADamagedPageIsFound adds a page with a wrong checksum to a table's file.
func testADamagedPageIsFound(t *testing.T, server *scratch.Server) {
	conn := connect(t, server.DSN("postgres"))
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	mustNotFind(t, findings(), "checksums-off", "data_checksums")
	mustNotFind(t, findings(), "checksum-failures", "database postgres")
	exec(t, conn, "CREATE TABLE damaged (id int)")
	var file string
	if err := conn.QueryRow(t.Context(), "SELECT pg_relation_filepath('damaged')").Scan(&file); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(server.DataDir(), file)
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xA5}, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, server.DSN("postgres")).Exec(t.Context(), "SELECT * FROM damaged"); err == nil {
		t.Fatal("the damaged page was read")
	}
	f := comes(t, "checksum-failures", "database postgres", findings)
	if f.Severity != pgmedic.SeverityCritical {
		t.Errorf("%+v", f)
	}
	paste(t, conn, f.Fix)
	exec(t, conn, "DROP TABLE damaged", "SELECT pg_stat_reset()")
	goes(t, "checksum-failures", "database postgres", findings)
}

func testMissingChecksumsAreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	var on string
	if err := conn.QueryRow(t.Context(), "SHOW data_checksums").Scan(&on); err != nil {
		t.Fatal(err)
	}
	if on == "off" {
		mustFind(t, judgeNow(t, conn), "checksums-off", "data_checksums")
	} else {
		mustNotFind(t, judgeNow(t, conn), "checksums-off", "data_checksums")
	}
}
