package monitor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// testAnIndexThatAReplicaUsesIsKept has two indexes that nothing on the primary
// uses, of which sessions on a standby use one.
func testAnIndexThatAReplicaUsesIsKept(t *testing.T, dsn string, primary *scratch.Server) {
	conn := connect(t, dsn)
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY, a int, b int)", "INSERT INTO t SELECT i, i, i FROM generate_series(1, 5000) i",
		"CREATE INDEX used_there ON t (a)", "CREATE INDEX used_nowhere ON t (b)", "ANALYZE t")
	standby.CatchUp(t)
	database := look(t, conn, collect.Options{}).Database
	there := connect(t, standby.DSN(database))
	exec(t, there, "SELECT * FROM t WHERE a = 7")

	limits := reading.DefaultThresholds()
	limits.UnusedIndexAge, limits.UnusedIndexBytes = 0, 0
	read := func(ask bool) []pgmedic.Finding {
		r := look(t, conn, collect.Options{})
		if ask {
			known := askWho(t, standby.URL("postgres"), r)
			if err := collect.Replica(t.Context(), there, r, known, collect.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		return judge.Analyse(r, nil, limits)
	}
	unasked := read(false)
	for _, name := range []string{"public.used_there", "public.used_nowhere"} {
		if f := mustFind(t, unasked, "index-unused", name); f.Fix != "" || evidenceOf(f, "replicas_not_seen") == "" {
			t.Errorf("a replica that nobody asked may use %s: %+v", name, f)
		}
	}
	testkit.Eventually(t, time.Minute, "the replica has counted its scan", func() bool {
		_, unused := find(read(true), "index-unused", "public.used_there")
		return !unused
	})
	f := mustFind(t, read(true), "index-unused", "public.used_nowhere")
	if !strings.Contains(evidenceOf(f, "replicas_seen"), "standby") {
		t.Errorf("who was asked: %+v", f)
	}
	paste(t, conn, f.Fix)
	mustNotFind(t, read(true), "index-unused", "public.used_nowhere")

	// One that was there once, and has a slot still, may come back.
	exec(t, conn, "CREATE INDEX later ON t (b)", "SELECT pg_create_physical_replication_slot('absent', true)")
	standby.CatchUp(t)
	if f := mustFind(t, read(true), "index-unused", "public.later"); f.Fix != "" || !strings.Contains(evidenceOf(f, "replicas_not_seen"), "absent") {
		t.Errorf("an absent replica may use it: %+v", f)
	}
	exec(t, conn, "SELECT pg_drop_replication_slot('absent')")
	if f := mustFind(t, read(true), "index-unused", "public.later"); f.Fix == "" {
		t.Errorf("nobody uses it: %+v", f)
	}
	// What a replica knows is as old as its statistics are.
	limits.UnusedIndexAge = time.Hour
	r := look(t, conn, collect.Options{})
	if err := collect.Replica(t.Context(), there, r, askWho(t, standby.URL("postgres"), r), collect.Options{}); err != nil {
		t.Fatal(err)
	}
	long := r.TakenAt.Add(-24 * time.Hour)
	r.Transactions.StatsReset = nil
	for i := range r.Indexes.Unused {
		r.Indexes.Unused[i].ChangedAt = &long
	}
	if f := mustFind(t, judge.Analyse(r, nil, limits), "index-unused", "public.later"); f.Fix != "" {
		t.Errorf("the replica has counted for some seconds only: %+v", f)
	}

	// The primary is no replica of itself, nor is another database one of this.
	other := connect(t, standby.DSN("postgres"))
	for _, wrong := range []*pgx.Conn{conn, other} {
		r := look(t, conn, collect.Options{})
		if err := collect.Replica(t.Context(), wrong, r, reading.Replica{}, collect.Options{}); err == nil || len(r.Replicas) != 0 {
			t.Errorf("it was taken for a replica: %v", err)
		}
	}
}

// askWho says by what stream a replica is known.
func askWho(t *testing.T, url string, r *reading.Reading) reading.Replica {
	t.Helper()
	target, err := postgres.ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	who, err := databases.ReadReplica(t.Context(), target, r.Server.SystemIdentifier)
	if err != nil {
		t.Fatal(err)
	}
	return reading.Replica{Name: "standby", Application: who.Stream.Name, Slot: who.Stream.Slot}
}
