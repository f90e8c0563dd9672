package emergency_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/emergency"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// known are the facts of a place where everything is known.
func known() emergency.Facts {
	return emergency.Facts{
		Now: now, When: time.Date(2026, 11, 29, 10, 42, 0, 0, time.UTC), Table: "public.claims", Database: "clinic",
		Conninfo: "host='db.internal' user='post gres'", OwnSlot: "pgmedic_db1",
		Server: emergency.Server{
			Reached: true, Major: 15, DiskBytes: 100 << 30, DiskFreeBytes: 1 << 30, WALBytes: 40 << 30, DatabaseBytes: 7 << 30,
			Slots: []emergency.Slot{{Name: "busy", Type: "physical", Active: true, RetainedBytes: 15 << 30}, {Name: "old_standby", Type: "physical", RetainedBytes: 30 << 30},
				{Name: "subscriber", Type: "logical", Database: "clinic", RetainedBytes: 2 << 30}},
			Blockers: []emergency.Blocker{{PID: 4711, User: "nurse", Application: "app", State: "idle in transaction", BackendStart: now.Add(-time.Hour), TransactionSeconds: 600, Waiting: 3}},
			Ages:     []emergency.Age{{Database: "clinic", Transactions: 2_000_000_000}, {Database: "postgres", Transactions: 100}},
			Holders:  []emergency.Holder{{Kind: "prepared transaction", Name: "it's", Database: "clinic", XIDAge: 1_999_000_000}},
		},
		Backups: []emergency.Backup{
			{ID: "20261129T110000Z-cccccc", Database: "clinic", At: now.Add(-time.Hour), Proof: pgmedic.ProofTaken, Shrunk: true},
			{ID: "20261129T100000Z-bbbbbb", Database: "clinic", At: now.Add(-2 * time.Hour), Proof: pgmedic.ProofFailed},
			{ID: "20261129T090000Z-aaaaaa", Database: "clinic", At: now.Add(-3 * time.Hour), Proof: pgmedic.ProofProven, RecoverySeconds: 660},
			{ID: "20261129T080000Z-999999", Database: "other", At: now.Add(-4 * time.Hour), Proof: pgmedic.ProofProven},
		},
		Stores: []emergency.Store{{Name: "/backups", Count: 4}, {Name: "offsite", Count: 4}},
		WAL:    &emergency.Window{From: now.Add(-48 * time.Hour), Until: now, Timeline: 1},
		Keys:   emergency.Keys{Count: 1, Opens: true},
	}
}

func plan(t *testing.T, id string, f emergency.Facts) string {
	t.Helper()
	c, ok := emergency.Find(id)
	if !ok {
		t.Fatalf("there is no case %s", id)
	}
	var b strings.Builder
	for i, s := range emergency.NewPlan(c, f).Steps {
		fmt.Fprintf(&b, "%d. %s | %s | %s | run %v\n", i+1, s.Title, s.Why, s.Command, s.CanRun)
		for _, u := range s.Unknown {
			fmt.Fprintf(&b, "   unknown %s\n", u.Word)
		}
	}
	return b.String()
}

// TestPlans holds facts against what each case makes of them.
func TestPlans(t *testing.T) {
	for name, tt := range map[string]struct {
		what   string
		change func(*emergency.Facts)
		has    []string
		lacks  []string
	}{
		"rows, with WAL": {"rows-deleted", func(*emergency.Facts) {},
			[]string{`restore --to-time '2026-11-29 10:41:59+00' --table=public.claims --database=clinic --in-place --missing-rows --dry-run | run true`, "--in-place --missing-rows | run false", "RESCUE_SCHEMA", "reaches 2026-11-29 10:41:59+00"},
			[]string{"SCHEMA.TABLE", "BACKUP_ID", "deleted on purpose"}},
		"rows, WAL that ends just before": {"rows-deleted", func(f *emergency.Facts) { f.WAL.Until = f.When.Add(-time.Minute) },
			[]string{"--to-time '2026-11-29 10:41:59+00'", "not known yet", "Else use backup 20261129T090000Z-aaaaaa"}, nil},
		"rows, WAL that begins just after": {"rows-deleted", func(f *emergency.Facts) { f.WAL.From, f.Backups = f.When.Add(time.Minute), nil },
			[]string{"--to-time '2026-11-29 10:41:59+00'", "not known yet"}, []string{"Else use"}},
		"rows, WAL without times": {"rows-deleted", func(f *emergency.Facts) { f.WAL = &emergency.Window{Timeline: 1} }, []string{"--to-time", "not known yet"}, nil},
		"rows, WAL that ends before": {"rows-deleted", func(f *emergency.Facts) { f.WAL.Until = f.When.Add(-time.Hour) },
			[]string{"pgmedic restore 20261129T090000Z-aaaaaa --table=public.claims", "does not reach", "is proven to restore", "deleted on purpose", `"pgmedic_rescue_20261129t090000z_aaaaaa"`}, []string{"--to-time", "unknown"}},
		"rows, moment unknown": {"rows-deleted", func(f *emergency.Facts) { f.When = time.Time{} },
			[]string{"restore 20261129T090000Z-aaaaaa ", "--when"}, []string{"20261129T110000Z-cccccc", "--to-time"}},
		"rows, WAL that begins after": {"rows-deleted", func(f *emergency.Facts) { f.WAL.From = f.When.Add(time.Hour) }, []string{"restore 20261129T090000Z-aaaaaa", "does not reach"}, []string{"--to-time"}},
		"rows, nothing known": {"rows-deleted", func(f *emergency.Facts) { *f = emergency.Facts{Now: now} },
			[]string{"pgmedic list", "unknown BACKUP_ID", "unknown SCHEMA.TABLE", "unknown DATABASE_NAME"}, []string{"--dry-run | run true"}},
		"rows, backups from after only": {"rows-deleted", func(f *emergency.Facts) { f.WAL, f.When = nil, now.Add(-90*time.Hour) },
			[]string{"No backup from before 2026-11-25", "list --store offsite", "unknown BACKUP_ID"}, nil},
		"table": {"table-dropped", func(f *emergency.Facts) { f.WAL = nil },
			[]string{"restore 20261129T090000Z-aaaaaa --table=public.claims --database=clinic --in-place --dry-run | run true", "--in-place | run false", `count(*) FROM "public"."claims"`, `DROP SCHEMA "pgmedic_rescue_20261129t090000z_aaaaaa"`}, []string{"unknown", "--into=", "--missing-rows"}},
		"table, with WAL":                    {"table-dropped", func(*emergency.Facts) {}, []string{"--to-time '2026-11-29 10:41:59+00' --table=public.claims --database=clinic --in-place | run false", "known after the recovery"}, []string{"--into="}},
		"table, a name that others may have": {"table-dropped", func(f *emergency.Facts) { f.WAL, f.Table = nil, "claims" }, []string{"--table=claims --database=clinic --in-place --missing-rows | run false", "keep their rows"}, nil},
		"table, from a backup that has no single definitions": {"table-dropped", func(f *emergency.Facts) { f.WAL, f.Backups[2].NotInPlace = nil, "was taken with method plain" },
			[]string{"restore 20261129T090000Z-aaaaaa --into=clinic_20261129_104159 ", "was taken with method plain", `"public"."claims"`, "7.0 GiB", `DROP DATABASE "clinic_20261129_104159"`}, []string{"unknown", "--in-place |"}},
		"table, several": {"table-dropped", func(f *emergency.Facts) { f.Table = "public.*" }, []string{"unknown SCHEMA.TABLE", "--in-place --missing-rows | run false"}, nil},
		"update": {"wrong-update", func(*emergency.Facts) {}, []string{`UPDATE "public"."claims" AS c SET COLUMN_NAME = b.COLUMN_NAME FROM "RESCUE_SCHEMA"."claims" AS b`, "ROLLBACK; -- write COMMIT",
			"--table=public.claims --database=clinic | run true", "--in-place | run false", "rows that were added since are removed"}, []string{"\nCOMMIT;", "--missing-rows"}},
		"disk": {"disk-full", func(*emergency.Facts) {}, []string{"1.0 GiB of 100.0 GiB", "slot_name = 'old_standby' AND NOT active", "dbname=clinic' <<'SQL'\nSELECT pg_drop_replication_slot"}, []string{"slot_name = 'busy'", "rm ", "pg_stat_archiver"}},
		"disk, server down": {"disk-full", func(f *emergency.Facts) { f.Server = emergency.Server{} },
			[]string{"does not answer", "df -h", "Never delete", "pg_replication_slots", "pg_stat_archiver"}, []string{"pg_drop_replication_slot"}},
		"own slot": {"wal-full", func(f *emergency.Facts) { f.Server.Slots[1].Name = "pgmedic_db1" },
			[]string{"pgmedic wal stream", "makes a gap"}, []string{"slot_name = 'pgmedic_db1'"}},
		"archive fails":         {"wal-full", func(f *emergency.Facts) { f.Server.ArchiverFails = true }, []string{"pg_stat_archiver", "CHECKPOINT"}, nil},
		"slot, limit":           {"slot-inactive", func(*emergency.Facts) {}, []string{"max_slot_wal_keep_size = '30GB'", "old_standby"}, nil},
		"slot, old server":      {"slot-inactive", func(f *emergency.Facts) { f.Server.Major = 12 }, []string{"old_standby"}, []string{"max_slot_wal_keep_size"}},
		"slot, none":            {"slot-inactive", func(f *emergency.Facts) { f.Server.Slots = nil }, []string{"Nothing to do now", "'20GB'"}, []string{"pg_drop_replication_slot"}},
		"wraparound":            {"wraparound", func(*emergency.Facts) {}, []string{"ROLLBACK PREPARED 'it''s'", "COMMIT PREPARED", "93 %", "-c VACUUM"}, []string{"-c 'VACUUM FULL", "database postgres"}},
		"wraparound, unknown":   {"wraparound", func(f *emergency.Facts) { f.Server = emergency.Server{} }, []string{"pg_prepared_xacts", "Vacuum database clinic"}, nil},
		"slow":                  {"server-slow", func(*emergency.Facts) {}, []string{"Process 4711 of role nurse (app) keeps 3 sessions waiting, in a transaction of 10 min.", "pg_terminate_backend(pid)", "pid = 4711 AND backend_start = '2026-11-29 11:00:00+00'", "maintain --dry-run"}, nil},
		"slow, active":          {"server-slow", func(f *emergency.Facts) { f.Server.Blockers[0].State = "active" }, []string{"pg_cancel_backend(pid)"}, []string{"pg_terminate_backend(pid)"}},
		"slow, prepared":        {"server-slow", func(f *emergency.Facts) { f.Server.Blockers[0].Prepared = "gid" }, []string{"ROLLBACK PREPARED 'gid'"}, []string{"4711"}},
		"slow, nobody":          {"server-slow", func(f *emergency.Facts) { f.Server.Blockers = nil }, []string{"pg_blocking_pids"}, nil},
		"lost, with WAL":        {"server-lost", func(f *emergency.Facts) { f.Server = emergency.Server{} }, []string{"--target-dir NEW_FOLDER --to-end --dry-run", "reaches 2026-11-29 12:00:00+00", "Bring back what the restore set aside"}, []string{"--globals"}},
		"lost, without WAL":     {"server-lost", func(f *emergency.Facts) { f.WAL, f.When = nil, time.Time{} }, []string{"restore 20261129T090000Z-aaaaaa --into=clinic --globals --host=NEW_HOST --dry-run", "answers", "11 min"}, []string{"--target-dir"}},
		"failover, standby":     {"failover-failed", func(f *emergency.Facts) { f.Server.Standby = true }, []string{"is a standby", "pg_promote()", "--timeline OLD_TIMELINE"}, nil},
		"key":                   {"key-lost", func(*emergency.Facts) {}, []string{"keys list 20261129T110000Z-cccccc", "opens the newest", "keys add --all --new NEW_KEY_FILE", "backup --new-key NEW_KEY_FILE"}, nil},
		"ransomware":            {"ransomware", func(*emergency.Facts) {}, []string{"verify 20261129T090000Z-aaaaaa --store OFFLINE_STORE", "Configured copies: offsite"}, nil},
		"ransomware, no moment": {"ransomware", func(f *emergency.Facts) { f.When = time.Time{} }, []string{"verify BACKUP_ID"}, nil},
		"flags of the run": {"rows-deleted", func(f *emergency.Facts) {
			f.Global, f.Connection, f.Store = []string{"--config=/a b.yaml"}, []string{"--host=h"}, []string{"--store=s"}
		}, []string{"--host=h --store=s '--config=/a b.yaml'"}, nil},
		"the name of the server": {"server-lost", func(f *emergency.Facts) {
			f.WAL, f.Named, f.Server = nil, []string{"--server=other"}, emergency.Server{}
		}, []string{"--globals --host=NEW_HOST --dry-run --server=other", "check --host=NEW_HOST --server=other"}, nil},
		"the name of the server, copies": {"rows-deleted", func(f *emergency.Facts) {
			f.WAL, f.Backups, f.Named = nil, nil, []string{"--server=other"}
		}, []string{"list --store offsite --server=other"}, nil},
		"update, a name that others may have": {"wrong-update", func(f *emergency.Facts) { f.Table = "claims" }, []string{`UPDATE SCHEMA.TABLE AS c`, "unknown SCHEMA.TABLE"}, nil},
		"database gone": {"table-dropped", func(f *emergency.Facts) { f.WAL, f.Server.DatabaseGone = nil, true },
			[]string{"restore 20261129T090000Z-aaaaaa --into=clinic --dry-run | run true", "restore 20261129T090000Z-aaaaaa --into=clinic | run true", "backup | run false"}, []string{"--table=", "DROP"}},
		"database gone, with WAL": {"rows-deleted", func(f *emergency.Facts) { f.Server.DatabaseGone = true }, []string{"--to-time '2026-11-29 10:41:59+00' --into=clinic --database=clinic | run true"}, []string{"--table="}},
		"small room": {"rows-deleted", func(f *emergency.Facts) {
			f.Room = emergency.Room{Dir: "/tmp", FreeBytes: 1 << 20, NeedsBytes: 9 << 30}
		}, []string{"9.0 GiB in /tmp, where 1.0 MiB are free", "--scratch-dir"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := known()
			tt.change(&f)
			got := plan(t, tt.what, f)
			for _, text := range tt.has {
				if !strings.Contains(got, text) {
					t.Errorf("it lacks %q:\n%s", text, got)
				}
			}
			for _, text := range tt.lacks {
				if strings.Contains(got, text) {
					t.Errorf("it has %q:\n%s", text, got)
				}
			}
		})
	}
}

// TestPlansAreSafe: whatever is known, nothing that destroys is run by pgmedic, no step has a
// word that stands for something and is not explained, and every case begins with something.
func TestPlansAreSafe(t *testing.T) {
	harmless := regexp.MustCompile(`^(list|verify|drill|report|check|maintain --dry-run|wal status|keys list|restore .*--dry-run|restore .*--(into|table)=)`)
	placeholder := regexp.MustCompile(`\b[A-Z]+(_[A-Z]+)+\b|SCHEMA\.TABLE`)
	sqlWord := regexp.MustCompile(`^(ON_ERROR_STOP|PGMEDIC_IDENTITY_FILES|BACKUP_RECIPIENTS)$`)
	aboutServer := regexp.MustCompile(`(\S+ )?psql -X [^\n]*-d (postgres\b|'[^'\n]*dbname=postgres\b)`)
	pathless := 0
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		f := randomFacts(r)
		for _, c := range emergency.Cases() {
			p := emergency.NewPlan(c, f)
			if len(p.Steps) < 3 {
				t.Fatalf("%s has %d steps", c.ID, len(p.Steps))
			}
			for _, s := range p.Steps {
				if s.CanRun && (!harmless.MatchString(strings.Join(s.Argv, " ")) || slices.Contains(s.Argv, "--swap") || slices.Contains(s.Argv, "--yes") ||
					slices.Contains(s.Argv, "--in-place") && !slices.Contains(s.Argv, "--dry-run")) {
					t.Fatalf("%s: it would run %q", c.ID, s.Argv)
				}
				if s.Title == "" || strings.HasSuffix(s.Title, ".") || strings.Contains(s.Command, "--yes") {
					t.Fatalf("%s: %+v", c.ID, s)
				}
				for _, m := range aboutServer.FindAllStringSubmatch(s.Command, -1) {
					if pathless++; m[1] != "PGOPTIONS=-csearch_path= " {
						t.Fatalf("%s: a statement about the server finds what others have put into its path: %q", c.ID, s.Command)
					}
				}
				for _, word := range placeholder.FindAllString(s.Command, -1) {
					if !sqlWord.MatchString(word) && !slices.ContainsFunc(s.Unknown, func(u emergency.Unknown) bool { return u.Word == word && u.Means != "" }) {
						t.Fatalf("%s: %s is not explained in %q", c.ID, word, s.Command)
					}
				}
			}
		}
	}
	if pathless < 100 {
		t.Errorf("%d statements about the server", pathless)
	}
}

// TestMaintenanceDatabase: statements about the whole server go to the database that is
// configured for them, where there may be no postgres.
func TestMaintenanceDatabase(t *testing.T) {
	f, named := known(), 0
	f.Maintenance = "its own"
	for _, c := range emergency.Cases() {
		for _, s := range emergency.NewPlan(c, f).Steps {
			if regexp.MustCompile(`(-d |dbname=)'?postgres\b`).MatchString(s.Command) {
				t.Errorf("%s: %s", c.ID, s.Command)
			}
			named += strings.Count(s.Command, "its own")
		}
	}
	if named < 10 {
		t.Errorf("%d commands name the configured database", named)
	}
}

// randomFacts are facts of which any may be missing.
func randomFacts(r *rand.Rand) emergency.Facts {
	f := known()
	names := []string{"clinic", "", "odd name", "it's", `a"b\c`, "-x", "a=b", "$(id)", "zeile\nzwei", "ünï", "`id`", "x'; drop"}
	if r.IntN(2) == 0 {
		f.When = time.Time{}
	}
	f.Server.DatabaseGone = r.IntN(4) == 0
	f.Database = names[r.IntN(len(names))]
	f.Table = []string{"public.claims", "", "pub*.x", `"odd ""name".t`, "t", `"it's".claims`, "Ünï.t"}[r.IntN(7)]
	for i := range f.Backups {
		f.Backups[i].Database = f.Database
		f.Backups[i].NotInPlace = []string{"", "was taken with method plain"}[r.IntN(2)]
	}
	if r.IntN(2) == 0 {
		f.WAL = nil
	}
	if r.IntN(2) == 0 {
		f.Backups = nil
	}
	if r.IntN(3) == 0 {
		f.Server = emergency.Server{}
	}
	if r.IntN(2) == 0 {
		f.Stores, f.Conninfo, f.Keys = nil, "", emergency.Keys{}
	}
	f.Server.Slots = append(f.Server.Slots, emergency.Slot{Name: "s" + strconv.Itoa(r.IntN(9)), Type: "logical", Database: f.Database, RetainedBytes: r.Int64N(1 << 40)})
	return f
}

// TestQuote: bash reads back each word as it was, and a terminal shows all of what is typed.
func TestQuote(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		testkit.Missing(t, "bash")
	}
	words := []string{"", "plain", "a b", "it's", `back\slash`, `"`, "$HOME `id` $(id)", "new\nline", "tab\t", "esc\x1b[2J", "bidi\u202etxt", "ünï", "-x", "'\n\\", "zero\u200bwidth", "!", "~", "*"}
	r := rand.New(rand.NewPCG(3, 4))
	alphabet := []rune("ab'\"\\ $`\n\t\x01\u202e\u00e9*?!~#&;|<>(){}[]")
	for range 500 {
		word := make([]rune, r.IntN(8))
		for i := range word {
			word[i] = alphabet[r.IntN(len(alphabet))]
		}
		words = append(words, string(word))
	}
	var script strings.Builder
	for _, w := range words {
		q := emergency.Quote(w)
		if strings.ContainsFunc(q, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' || r == '\u200b' }) {
			t.Errorf("%q is quoted as %q, which a terminal does not show", w, q)
		}
		script.WriteString(`printf '%s\0' ` + q + "\n")
	}
	out, err := exec.CommandContext(t.Context(), bash, "-c", script.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
		for i := range min(len(got), len(words)) {
			if got[i] != words[i] {
				t.Fatalf("%q became %q by %s", words[i], got[i], emergency.Quote(words[i]))
			}
		}
		t.Fatalf("%d words, want %d", len(got), len(words))
	}
}

func TestTableName(t *testing.T) {
	for pattern, want := range map[string]string{
		"public.claims": `"public"."claims"`, "Claims": `"claims"`, `"Odd ""x".T`: `"Odd ""x"."t"`, `"a.b"`: `"a.b"`,
		"pub*.x": "", "a?": "", "a+": "", "": "", "a.b.c": "", `"open`: "", "Ünï": "", "\"a\nb\"": "",
	} {
		got, ok := emergency.TableName(pattern)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q is %q, %v; want %q", pattern, got, ok, want)
		}
	}
}

func TestParseWhen(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		testkit.Missing(t, "the database of time zones")
	}
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, berlin)
	// On 25 October 2026 clocks there are set back from 3 to 2, on 29 March 2026 forward from 2 to 3.
	for _, tt := range []struct {
		text, want string
		now        time.Time
	}{
		{"10:42", "2026-11-29T09:42:00Z", noon}, {"10:42:30.5", "2026-11-29T09:42:30.5Z", noon},
		{"13:00", "2026-11-28T12:00:00Z", noon}, // it is not 13:00 yet
		{"2026-11-20 08:00", "2026-11-20T07:00:00Z", noon}, {"2026-07-01 08:00:05", "2026-07-01T06:00:05Z", noon},
		{"2026-11-20 08:00+00", "2026-11-20T08:00:00Z", noon}, {"2026-11-20 08:00:00.25+01:00", "2026-11-20T07:00:00.25Z", noon}, {"2026-11-20T08:00:00Z", "2026-11-20T08:00:00Z", noon},
		{"2026-10-25 02:30", "", noon}, {"2026-10-25 01:59", "2026-10-24T23:59:00Z", noon}, {"2026-10-25 03:00", "2026-10-25T02:00:00Z", noon},
		{"2026-10-25 02:30+02", "2026-10-25T00:30:00Z", noon},
		{"2026-03-29 02:30", "", noon}, {"2026-03-29 03:00", "2026-03-29T01:00:00Z", noon},
		{"02:30", "", time.Date(2026, 10, 25, 9, 0, 0, 0, berlin)},
		{"2026-12-01 08:00", "", noon}, {"yesterday", "", noon}, {"", "", noon}, {"25:00", "", noon}, {"10.42", "", noon}, {"2026-13-01 10:00", "", noon},
		{"23:59", "2026-10-24T21:59:00Z", time.Date(2026, 10, 25, 0, 30, 0, 0, berlin)},
	} {
		got, err := emergency.ParseWhen(tt.text, tt.now)
		switch {
		case tt.want == "" && pgmedic.KindOf(err) != pgmedic.KindUsage:
			t.Errorf("%q is %v, %v", tt.text, got, err)
		case tt.want != "" && (err != nil || got.UTC().Format(time.RFC3339Nano) != tt.want):
			t.Errorf("%q is %v (%v), want %s", tt.text, got.UTC(), err, tt.want)
		}
	}
}

func TestBefore(t *testing.T) {
	for at, want := range map[string]string{"10:42:00": "10:41:59", "10:42:00.5": "10:41:59", "00:00:00": "23:59:59"} {
		when, err := time.Parse("15:04:05.999", at)
		if err != nil {
			t.Fatal(err)
		}
		if got := (emergency.Facts{When: when}).Before().Format("15:04:05"); got != want {
			t.Errorf("before %s is %s, want %s", at, got, want)
		}
	}
	if !(emergency.Facts{}).Before().IsZero() {
		t.Error("there is a moment before one that is not known")
	}
}

func TestHeads(t *testing.T) {
	for name, tt := range map[string]struct {
		waits map[int][]int
		want  []emergency.Head
	}{
		"none":          {nil, nil},
		"one":           {map[int][]int{2: {1}}, []emergency.Head{{1, 1}}},
		"chain":         {map[int][]int{2: {1}, 3: {2}, 4: {3}}, []emergency.Head{{1, 3}}},
		"two heads":     {map[int][]int{2: {1}, 4: {3}, 5: {3}}, []emergency.Head{{3, 2}, {1, 1}}},
		"shared":        {map[int][]int{3: {1, 2}}, []emergency.Head{{1, 1}, {2, 1}}},
		"ring":          {map[int][]int{1: {2}, 2: {1}}, nil},
		"ring and head": {map[int][]int{1: {2}, 2: {1, 9}}, []emergency.Head{{9, 2}}},
		"prepared":      {map[int][]int{5: {0}}, []emergency.Head{{0, 1}}},
	} {
		if got := emergency.Heads(tt.waits); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
