package test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// session is a connection to the living database, with a statement that it has run.
func (r *runbook) session(statements ...string) *pgx.Conn {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn := testkit.Connect(r.t, r.old.DSN("clinic"))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			r.t.Fatal(err)
		}
	}
	return conn
}

func (r *runbook) slots(want string) {
	r.t.Helper()
	got := fixture.Query[string](r.t, r.old.DSN("postgres"), "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1")
	if strings.Join(got, " ") != want {
		r.t.Errorf("slots are %q, want %q", got, want)
	}
}

func (r *runbook) fullWAL() {
	r.live("SELECT pg_create_physical_replication_slot('old_standby', true)")
	r.t.Cleanup(func() {
		fixture.Exec(r.t, r.old.DSN("postgres"), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
	})
	r.says(r.follow("wal-full-look"), `old_standby +\| physical +\| f`, `last_failed_time`, `max_wal_size`)
	r.says(r.follow("wal-full-after"), `^ *\d+ MB +\| +\d+`)
	r.slots("old_standby") // nothing of this drops one
}

func (r *runbook) inactiveSlot() {
	r.live("SELECT pg_create_physical_replication_slot('old_standby', true)", "SELECT pg_create_physical_replication_slot('other', true)")
	r.t.Cleanup(func() {
		fixture.Exec(r.t, r.old.DSN("postgres"), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots", "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
	})
	r.says(r.follow("slot-look"), `slot-inactive|old_standby`, `old_standby +\| physical`)
	r.says(r.follow("slot-drop"), `\(1 row\)`)
	r.slots("other")
	r.says(r.follow("slot-drop"), `\(0 rows\)`)
	r.follow("slot-limit")
	testkit.Eventually(r.t, 30*time.Second, "the limit is in force", func() bool {
		return fixture.Query[string](r.t, r.old.DSN("postgres"), "SELECT current_setting('max_slot_wal_keep_size')")[0] == "20GB"
	})
}

func (r *runbook) wraparoundNear() {
	conn := r.session("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM claims")
	r.says(r.follow("wraparound-look"), `^ *clinic +\| +\d+ +\| +\d+`, `session `+strconv.Itoa(int(conn.PgConn().PID())))
	r.says(r.follow("wraparound-vacuum"), `^VACUUM$`, `clinic +\| +\d+`)
}

func (r *runbook) slowServer() {
	head := r.session("BEGIN", "LOCK TABLE claims")
	pid := strconv.Itoa(int(head.PgConn().PID()))
	waiter := r.session()
	waited := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		_, err := waiter.Exec(ctx, "UPDATE claims SET payer = 'later' WHERE id = 1")
		waited <- err
	}()
	testkit.Eventually(r.t, 30*time.Second, "one waits", func() bool {
		return fixture.Query[int64](r.t, r.old.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE "+pid+" = ANY (pg_blocking_pids(pid))")[0] > 0
	})
	r.follow("slow-look")
	r.says(r.follow("slow-chain"), `^ *`+pid+` .* \{\} `, `\{`+pid+`\}`)
	r.blocks["slow-end"] = strings.ReplaceAll(r.blocks["slow-end"], "4711", pid)
	r.says(r.follow("slow-end"), `^ t$`, `\(1 row\)`)
	if err := <-waited; err != nil {
		r.t.Errorf("the session that waited: %v", err)
	}
	r.says(r.follow("slow-analyze"), `^ANALYZE$`)
}

func (r *runbook) failedFailover() {
	old, spare := r.old, r.spare
	r.t.Cleanup(func() { r.old, r.spare = old, spare })
	r.old = scratchtest.New(r.t, scratch.Options{Settings: map[string]string{"wal_level": "replica", "hot_standby": "on"}})
	fixture.Exec(r.t, r.old.DSN("postgres"), "CREATE DATABASE clinic")
	fixture.Exec(r.t, r.old.DSN("clinic"), "CREATE TABLE claims (id bigint PRIMARY KEY)")
	standby := scratchtest.NewStandby(r.t, r.old, scratch.StandbyOptions{})
	standby.CatchUp(r.t)
	r.spare = standby.Server
	// Both are on this machine, each in a folder of its own.
	r.blocks["failover-ask"] = strings.ReplaceAll(r.blocks["failover-ask"], "psql -h", `PGPORT=$(if [ "$host" = new.internal ]; then echo `+strconv.Itoa(r.spare.Port())+`; else echo `+strconv.Itoa(r.old.Port())+`; fi) psql -h`)
	r.env = append(r.env, "PGUSER="+r.old.Superuser(), "PGPORT="+strconv.Itoa(r.spare.Port()))
	r.says(r.follow("failover-ask"), `^ f +\| .* 1$`, `^ t +\| .* 1$`)
	r.follow("failover-promote")
	r.says(r.follow("failover-ask"), `^ f +\| .* 1$`, `^ f +\| .* 2$`)
	r.says(r.follow("failover-after"), `^backed up clinic`)
}

// guideWAL: where the stored WAL reaches the second before the accident, what emergency
// prints brings the table of that second back.
func (r *runbook) guideWAL() {
	s := r.streaming()
	moment := fixture.Query[string](r.t, s.server.DSN("clinic"), "SELECT (date_trunc('second', clock_timestamp()) + interval '2 seconds')::text")[0]
	testkit.Eventually(r.t, time.Minute, "the second before the accident is over", func() bool {
		return fixture.Query[bool](r.t, s.server.DSN("clinic"), "SELECT clock_timestamp() > '"+moment+"'::timestamptz")[0]
	})
	fixture.Exec(r.t, s.server.DSN("clinic"), "UPDATE claims SET payer = 'wrong'", "DELETE FROM claims WHERE id > 400")
	s.stored(s.server)
	var g guided
	out := r.bash(r.at("pgmedic")+" emergency wrong-update clinic --json --table public.claims --when '"+moment+"'", 0)
	if err := json.Unmarshal([]byte(out), &g); err != nil {
		r.t.Fatal(err)
	}
	g.has(r.t, "moments", "ok", "recoverable from ")
	g.has(r.t, "backups", "ok", "1 base backup of the whole cluster")
	g.has(r.t, "keys", "ok", "can read")
	r.bash(g.step(r.t, "--dry-run"), 0)
	ran := false
	for _, step := range g.Steps {
		if strings.Contains(step.Command, "--to-time") && !strings.Contains(step.Command, "--dry-run") && !strings.Contains(step.Command, "--in-place") {
			r.bash(step.Command, 0)
			ran = true
		}
	}
	if !ran {
		r.t.Fatalf("no step brings the table back: %+v", g.Steps)
	}
	schema := fixture.Query[string](r.t, s.server.DSN("clinic"), "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^pgmedic_'")
	if len(schema) != 1 {
		r.t.Fatalf("schemas are %q", schema)
	}
	mend := strings.NewReplacer("RESCUE_SCHEMA", schema[0], "COLUMN_NAME", "payer", "KEY_COLUMN", "id", "ROLLBACK;", "COMMIT;").Replace(g.step(r.t, "UPDATE"))
	r.says(r.bash(mend, 0), `^UPDATE 400$`)
	if n := fixture.Query[int64](r.t, s.server.DSN("clinic"), "SELECT count(*) FROM claims WHERE payer = 'payer ' || id")[0]; n != 400 {
		r.t.Errorf("%d rows are as they were", n)
	}
	r.bash(strings.ReplaceAll(g.step(r.t, "DROP SCHEMA"), "RESCUE_SCHEMA", schema[0]), 0)

	// The whole table is put back, with the rows that were deleted.
	fixture.Exec(r.t, s.server.DSN("clinic"), "UPDATE claims SET payer = 'wrong'")
	r.says(r.bash(g.step(r.t, "--in-place"), 0), `^put back `)
	if n := fixture.Query[int64](r.t, s.server.DSN("clinic"), "SELECT count(*) FROM claims WHERE payer = 'payer ' || id")[0]; n != 500 {
		r.t.Errorf("%d rows are as they were", n)
	}
	for _, left := range fixture.Query[string](r.t, s.server.DSN("clinic"), "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^pgmedic_'") {
		r.bash(strings.ReplaceAll(g.step(r.t, "DROP SCHEMA"), "RESCUE_SCHEMA", left), 0)
	}
}
