package monitor_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var record = flag.Bool("record", false, "record readings of servers of every version anew (with PGMEDIC_TEST_ALL=1)")

// busySchema is a small clinic with which much is wrong.
var busySchema = []string{
	"CREATE EXTENSION pg_stat_statements", "CREATE EXTENSION pgstattuple", "CREATE SCHEMA clinic", "SET search_path = clinic, public",
	"CREATE TABLE patients (id serial PRIMARY KEY, name text, ssn text)", "SELECT setval('patients_id_seq', 2040109465)",
	"INSERT INTO patients (id, name, ssn) SELECT i, 'n' || i, 's' || i FROM generate_series(1, 20000) i",
	`CREATE TABLE "Visits" (id bigint PRIMARY KEY, patient int REFERENCES patients, "Note" text)`,
	`INSERT INTO "Visits" SELECT i, i, 'note' FROM generate_series(1, 20000) i`,
	`CREATE INDEX "first" ON "Visits" ("Note", id)`, `CREATE INDEX "second" ON "Visits" ("Note", id)`, `CREATE INDEX prefix ON "Visits" ("Note")`,
	"CREATE INDEX spare ON patients (name) WHERE ssn <> 'x'",
	"CREATE TABLE swollen (id int PRIMARY KEY, t text) WITH (autovacuum_enabled = off)",
	"INSERT INTO swollen SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i", "DELETE FROM swollen WHERE id % 10 <> 0", "VACUUM (ANALYZE) swollen",
	"CREATE TABLE dead (id int PRIMARY KEY) WITH (autovacuum_enabled = off)", "INSERT INTO dead SELECT generate_series(1, 5000)", "DELETE FROM dead WHERE id <= 3000",
	"CREATE TABLE keyless (a int, b text)", "CREATE TABLE events (at date NOT NULL, patient int REFERENCES patients) PARTITION BY RANGE (at)",
	"CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
	"CREATE TABLE old (id int PRIMARY KEY)", "ANALYZE patients", `ANALYZE "Visits"`,
	"UPDATE pg_class SET relfrozenxid = ((txid_current() + 4294967296 - 1400000000) % 4294967296)::text::xid WHERE oid = 'old'::regclass",
	"SELECT pg_create_physical_replication_slot('left_behind', true)",
	"CREATE SUBSCRIPTION disabled CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false, slot_name = NONE)",
}

// TestRecordReadings writes testdata/readings:
//
//	PGMEDIC_TEST_ALL=1 go test ./internal/monitor -run 'RecordReadings|RecordedReadings' -record -update
//
// Times, process ids, oids and folders are made the same each time; the numbers
// are the server's.
func TestRecordReadings(t *testing.T) {
	if !*record {
		return // readings are recorded with -record
	}
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			o := options(major)
			o.Settings["archive_command"], o.Settings["autovacuum"] = "false", "off"
			server := scratchtest.New(t, o)
			exec(t, connect(t, server.DSN("postgres")), "CREATE DATABASE clinic")
			standby := scratchtest.NewStandby(t, server, scratch.StandbyOptions{Name: "reader"})
			conn := connect(t, server.DSN("clinic"))
			exec(t, conn, busySchema...)
			there := connect(t, standby.DSN("clinic"))
			standby.CatchUp(t)
			exec(t, there, "SELECT count(*) FROM clinic.patients")
			standby.Pause(t)
			disturb(t, server, conn)
			r := look(t, conn, collect.Options{Interval: 100 * time.Millisecond, ExactBloat: true, Plans: true})
			known := askWho(t, standby.URL("postgres"), r)
			if err := collect.Replica(t.Context(), there, r, known, collect.Options{}); err != nil {
				t.Fatal(err)
			}
			keep(t, r, fmt.Sprintf("%d-primary", major))
			keep(t, look(t, there, collect.Options{Interval: 100 * time.Millisecond}), fmt.Sprintf("%d-standby", major))
			standby.Resume(t)
			exec(t, conn, "ROLLBACK PREPARED 'half'", "SELECT pg_drop_replication_slot('left_behind')")
		})
	}
}

// disturb leaves sessions in states that should not be, and waits until the
// statistics have it all.
func disturb(t *testing.T, server *scratch.Server, conn *pgx.Conn) {
	t.Helper()
	dsn := server.DSN("clinic")
	prepared := connect(t, dsn)
	exec(t, prepared, "BEGIN", "INSERT INTO clinic.keyless VALUES (1, 'b')", "PREPARE TRANSACTION 'half'")
	idler, waiter, sleeper := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, idler, "SET application_name = 'billing'", "BEGIN", "UPDATE clinic.patients SET name = 'm' WHERE id = 1")
	for range 55 {
		exec(t, sleeper, `SELECT count(*) FROM clinic."Visits" WHERE patient = 7`)
	}
	exec(t, sleeper, "SET work_mem = '64kB'", "SELECT count(*) FROM (SELECT md5(i::text) AS h FROM generate_series(1, 20000) i ORDER BY 1) s")
	for range 20 {
		exec(t, sleeper, "BEGIN", "SELECT 1", "ROLLBACK")
	}
	exec(t, conn, "SELECT txid_current()", "SELECT pg_switch_wal()", "CHECKPOINT",
		"CREATE TABLE clinic.written AS SELECT repeat('x', 100) FROM generate_series(1, 5000)")
	flushed(t, conn, "clinic.dead", 3000)
	run(t, waiter, "UPDATE clinic.patients SET name = 'o' WHERE id = 1")
	run(t, sleeper, "SELECT pg_sleep(600)")
	testkit.Eventually(t, time.Minute, "the archiver has failed and the waiter waits", func() bool {
		var ready bool
		err := conn.QueryRow(t.Context(), "SELECT (SELECT failed_count > 0 FROM pg_stat_archiver) AND "+
			"(SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event_type = 'Lock' OR wait_event = 'PgSleep')").Scan(&ready)
		return err == nil && ready
	})
}

// keep writes a reading with what differs from run to run made the same.
func keep(t *testing.T, r *reading.Reading, name string) {
	t.Helper()
	taken := r.TakenAt
	if s := r.Statements; s != nil {
		// Ours say nothing of a server, and change with every change of ours.
		s.Items = slices.DeleteFunc(s.Items, func(x reading.Statement) bool {
			return !strings.Contains(x.Query, "clinic") && !strings.Contains(x.Query, "pg_sleep")
		})
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	n := normaliser{shift: noon.Sub(taken), pids: map[string]int{}, oids: map[string]int{}}
	out, err := json.Marshal(n.value("", tree))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(readings, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(readings, name+".json"), append(out, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// normaliser replaces what no two servers have in common.
type normaliser struct {
	shift      time.Duration
	pids, oids map[string]int
}

// value returns what to write for the value of a key. Objects come out with
// their keys sorted, so that the same number is replaced by the same one.
func (n *normaliser) value(key string, v any) any {
	switch x := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(x) {
			x[k] = n.value(k, x[k])
		}
		if x["name"] == "data_directory" {
			x["value"] = "/data"
		}
		return x
	case []any:
		for i := range x {
			x[i] = n.value(key, x[i])
		}
		return x
	case json.Number:
		return n.number(key, x)
	case string:
		if at, err := time.Parse(time.RFC3339Nano, x); err == nil {
			return at.Add(n.shift).Truncate(time.Millisecond).Format(time.RFC3339Nano)
		}
		if key == "system_identifier" {
			return "7500000000000000001"
		}
		if key == "sender_host" {
			return "/socket"
		}
		if pid, rest, ok := strings.Cut(strings.TrimPrefix(x, "process "), " "); ok && strings.HasPrefix(x, "process ") {
			return fmt.Sprintf("process %d %s", same(n.pids, pid, 1000), rest)
		}
		return x
	}
	return v
}

func (n *normaliser) number(key string, x json.Number) any {
	switch {
	case (key == "pid" || key == "blocked_by") && x != "0":
		return same(n.pids, x.String(), 1000)
	case key == "oid":
		return same(n.oids, x.String(), 16000)
	case strings.ContainsAny(x.String(), ".eE"):
		f, err := x.Float64()
		if err != nil {
			return x
		}
		f, err = strconv.ParseFloat(strconv.FormatFloat(f, 'g', 3, 64), 64)
		if err != nil {
			return x
		}
		return f
	}
	return x
}

// same gives each text the next number, and an equal text the same.
func same(seen map[string]int, text string, from int) int {
	if _, ok := seen[text]; !ok {
		seen[text] = from + len(seen)
	}
	return seen[text]
}

func sortedKeys(m map[string]any) []string {
	return slices.Sorted(maps.Keys(m))
}
