package monitor_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/poolstate"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// fullPool is the snapshot of a pool of one connection, which a session holds, and of a
// caller that waits for it.
func fullPool(at time.Time, role string, pid uint32) string {
	return fmt.Sprintf(`{"format":1,"taken_at":%q,"application":"clinic-api","servers":[{"server":"db1:5432","role":%q,"usable":true,
		"in_use":1,"waiting":1,"max":1,"holders":[{"pid":%d,"held_ns":1000000000,"sql":"UPDATE rooms SET n = 'Ann'","running":true,"taken_by":"clinic.Move:41"}],
		"waiters":[{"waited_ns":9000000000,"tag":"POST /visits"}]}]}`, at.Format(time.RFC3339Nano), role, pid)
}

// withPools reads a server and the pools of services.
func withPools(t *testing.T, dsn string, sources ...string) *reading.Reading {
	t.Helper()
	target, err := postgres.ParseTarget(dsn)
	if err != nil {
		t.Fatal(err)
	}
	o := inspect.Options{Target: target, Collect: collect.Options{Sections: []string{reading.SectionServices}}}
	for _, s := range sources {
		source, err := poolstate.ParseSource(s)
		if err != nil {
			t.Fatal(err)
		}
		o.Pools = append(o.Pools, source)
	}
	r, err := inspect.Server(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// testAFullPoolIsFoundAndWhatKeepsItEnded has a service whose only connection waits for a
// session that idles in a transaction.
func testAFullPoolIsFoundAndWhatKeepsItEnded(t *testing.T, dsn string) {
	idle, holder, admin := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, idle, "CREATE TABLE rooms (n text)", "INSERT INTO rooms VALUES ('Ben')", "BEGIN", "UPDATE rooms SET n = 'Eve'")
	exec(t, holder, "SET application_name = 'clinic-api'")
	updated := run(t, holder, "UPDATE rooms SET n = 'Ann'")
	testkit.Eventually(t, time.Minute, "the pool's session waits", func() bool { return waitsForLock(t, admin, holder) })

	full := true
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		snapshot := fullPool(time.Now(), "primary", holder.PgConn().PID())
		if !full {
			snapshot = strings.Replace(snapshot, `"waiting":1`, `"waiting":0`, 1)
		}
		_, _ = w.Write([]byte(snapshot))
	}))
	defer service.Close()
	limits := reading.DefaultThresholds()
	limits.LockWaitWarn = 0
	findings := func() []pgmedic.Finding {
		return judge.Analyse(withPools(t, dsn, service.URL+"/debug/pool?token=secret"), nil, limits)
	}
	const object = "service clinic-api, server db1:5432"
	f := comes(t, "pool-exhausted", object, findings)
	if !strings.Contains(f.Summary, fmt.Sprintf("process %d", idle.PgConn().PID())) || strings.Contains(fmt.Sprint(f), "secret") || strings.Contains(fmt.Sprint(f), "Ann") {
		t.Errorf("%+v", f)
	}
	r := withPools(t, dsn, service.URL)
	h := r.Services[0].Servers[0].Holders[0]
	if h.Session == nil || h.Session.Application != "clinic-api" || h.Session.WaitEvent == "" || len(h.Blockers) != 1 || h.Blockers[0].PID != int(idle.PgConn().PID()) {
		t.Errorf("%+v", h)
	}
	if strings.Contains(h.Query+h.Session.Query+h.Blockers[0].Query, "'") {
		t.Errorf("literals: %q, %q, %q", h.Query, h.Session.Query, h.Blockers[0].Query)
	}
	if f, _ := find(judge.Analyse(r, nil, reading.DefaultThresholds()), "pool-exhausted", object); f.Fix != "" {
		t.Errorf("a session that has just begun to idle is to be ended: %s", f.Fix)
	}
	paste(t, admin, f.Fix)
	if err := updated(); err != nil {
		t.Fatal(err)
	}
	full = false
	goes(t, "pool-exhausted", object, findings)
}

// waitsForLock reports whether a session waits for a lock.
func waitsForLock(t *testing.T, admin, of *pgx.Conn) (waits bool) {
	t.Helper()
	const query = "SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity WHERE pid = $1"
	if err := admin.QueryRow(t.Context(), query, of.PgConn().PID()).Scan(&waits); err != nil {
		t.Fatal(err)
	}
	return waits
}

// TestServicesNotJoined: what is not known of a service is listed as skipped, and no
// session of another program is taken for one of the pool's.
func TestServicesNotJoined(t *testing.T) {
	dsn := shared.DSN("postgres")
	conn := connect(t, dsn)
	exec(t, conn, "SET application_name = 'another'")
	pid := conn.PgConn().PID()
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	now := time.Now()
	for _, c := range []struct {
		name, source, reason string
		services             int
	}{
		{"no file", filepath.Join(t.TempDir(), "missing.json"), "no such file", 0},
		{"not a description", file("a.txt", "it's me"), "neither", 0},
		{"metrics", file("m.prom", "pgmedic_pool_connections_max{server=\"db1:5432\"} 5\n"), "metrics in a file do not say", 1},
		{"an old snapshot", file("old.json", fullPool(now.Add(-time.Hour), "primary", pid)), "too far from now", 1},
		{"of a standby", file("standby.json", fullPool(now, "standby", pid)), "no server of which it knows that it is a primary", 1},
		{"a service without a name", file("nameless.json", strings.Replace(fullPool(now, "primary", pid), "clinic-api", "", 1)), "no application_name", 1},
		{"an older process of the same number", file("older.json", strings.NewReplacer("clinic-api", "another", `"held_ns":1`, `"held_ns":9999`).Replace(fullPool(now, "primary", pid))), "", 1},
		{"another program's process", file("other.json", fullPool(now, "primary", pid)), "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := withPools(t, dsn, c.source)
			var reasons []string
			for _, s := range r.Skipped {
				if s.Section == reading.SectionServices {
					reasons = append(reasons, s.Reason)
				}
			}
			if c.reason == "" && len(reasons) > 0 || c.reason != "" && (len(reasons) != 1 || !strings.Contains(reasons[0], c.reason)) {
				t.Errorf("skipped for %q", reasons)
			}
			if len(r.Services) != c.services {
				t.Fatalf("%d services", len(r.Services))
			}
			for _, s := range r.Services {
				for _, h := range s.Servers[0].Holders {
					if h.Session != nil {
						t.Errorf("%+v", h.Session)
					}
				}
			}
		})
	}
}

// TestServicesOfMetrics: of metrics that a service answers with there are counts, a pool
// that is full is found, and what they do not say is listed as skipped.
func TestServicesOfMetrics(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("pgmedic_pool_connections_max{server=\"db1:5432\"} 5\npgmedic_pool_connections_in_use{server=\"db1:5432\"} 5\n" +
			"pgmedic_pool_waiting{server=\"db1:5432\"} 2\npgmedic_pool_server_primary{server=\"db1:5432\"} 1\n"))
	}))
	defer service.Close()
	r := withPools(t, shared.DSN("postgres"), service.URL+"/metrics")
	if len(r.Services) != 1 || r.Services[0].Servers[0].Waiting != 2 || r.Services[0].Servers[0].Joined {
		t.Fatalf("%+v", r.Services)
	}
	if skipped := fmt.Sprint(r.Skipped); !strings.Contains(skipped, "metrics do not say which statements") {
		t.Errorf("%s", skipped)
	}
	r.TakenAt = r.TakenAt.Add(-time.Hour) // to read the server took long
	f := mustFind(t, judge.Analyse(r, nil, reading.DefaultThresholds()), "pool-exhausted", "service "+service.URL+"/metrics, server db1:5432")
	if f.Fix != "" {
		t.Errorf("%+v", f)
	}
}
