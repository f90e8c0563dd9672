package render_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) *time.Time {
	t := noon.Add(-d)
	return &t
}

// clinic is a reading of a server with one of each trouble.
func clinic() *reading.Reading {
	table := func(name string, live, dead, heap, index, toast int64, vacuumed *time.Time) reading.Table {
		return reading.Table{
			Schema: "clinic", Name: name, Kind: "table", Exact: true, LiveTuples: live, DeadTuples: dead, EstimatedRows: live,
			TotalBytes: heap + index + toast, TableBytes: heap, IndexBytes: index, ToastBytes: toast, LastAutovacuum: vacuumed,
		}
	}
	locked := table("imports", 1_000_000, 0, 0, 0, 0, nil)
	locked.Exact, locked.EstimatedBytes = false, 64<<20
	return &reading.Reading{
		Format: reading.ReadingFormat, TakenAt: noon, Database: "clinic",
		Server: reading.Server{
			Version: "15.20", VersionNum: 150020, Role: reading.RolePrimary, SystemIdentifier: "7711137567784477118",
			StartedAt: noon.Add(-27 * time.Hour), UptimeSeconds: 27 * 3600,
			Settings: []reading.Setting{
				{Name: "autovacuum", Value: "on", Source: "default"}, {Name: "fsync", Value: "on", Source: "default"},
				{Name: "max_connections", Value: "100", Source: "configuration file", PendingRestart: true},
				{Name: "max_wal_size", Value: "1024", Unit: "MB", Source: "default"},
				{Name: "shared_buffers", Value: "16384", Unit: "8kB", Source: "configuration file"},
				{Name: "work_mem", Value: "4096", Unit: "kB", Source: "default"},
			},
			Extensions: []reading.Extension{{Name: "pg_stat_statements", Version: "1.10", Schema: "public"}, {Name: "plpgsql", Version: "1.0", Schema: "pg_catalog"}},
		},
		Connections: &reading.Connections{
			Used: 92, MaxConnections: 100, SuperuserReserved: 3, Hidden: 2, WaitingForLock: 1, OldestTransactionSeconds: 11535,
			ByState: []reading.StateCount{{State: "idle", Connections: 88}, {State: "hidden", Connections: 2}, {State: "active", Connections: 1}, {State: "idle in transaction", Connections: 1}},
			ByUser: []reading.UserCount{
				{User: "clinic_app", Application: "Prisma", Connections: 80}, {User: "postgres", Connections: 2},
				{User: "evil\x1b[2J", Application: "x\a\u202ey", Connections: 1},
			},
			IdleInTransaction: []reading.IdleSession{{
				PID: 4242, User: "clinic_app", Database: "clinic", Application: "Prisma", BackendStart: noon.Add(-5 * time.Hour),
				TransactionStart: noon.Add(-11535 * time.Second), IdleSeconds: 11520, TransactionSeconds: 11535,
			}},
		},
		Cache: &reading.Cache{LifetimeHits: 97_300_000, LifetimeReads: 2_700_000, StatsReset: at(30 * 24 * time.Hour)},
		Size:  &reading.Size{DatabaseBytes: 5 << 30},
		Tables: &reading.Tables{
			Total: 6, WithoutPrimaryKeyTotal: 2,
			Items: []reading.Table{
				table("observations", 12_345_678, 61_000, 2<<30, 900<<20, 8192, at(3*time.Hour)),
				table("claims", 400_000, 600_000, 700<<20, 80<<20, 0, nil),
				table("診療記録_とても長い名前のテーブルで端末の幅を超えるものです_次の行", 1, 0, 65536, 16384, 0, at(49*time.Hour)),
				locked,
				table("boom\x1b]0;owned\a", 10, 0, 8192, 0, 0, nil),
			},
			WithoutPrimaryKey: []reading.KeylessTable{
				{Schema: "clinic", Name: "imports", EstimatedBytes: 64 << 20, EstimatedRows: 1_000_000, FreeColumn: "id"},
				{Schema: "clinic", Name: "boom\x1b]0;owned\a", EstimatedRows: 10, UniqueIndex: "boom_key", UniqueIndexUsable: true},
			},
		},
		Indexes: &reading.Indexes{
			ForeignKeysWithoutIndexTotal: 2,
			ForeignKeysWithoutIndex: []reading.ForeignKey{
				{
					Schema: "clinic", Table: "observations", Name: "observations_patient_id_fkey", Columns: []string{"patient_id"},
					ReferencedSchema: "clinic", ReferencedTable: "patients", EstimatedBytes: 2 << 30, EstimatedRows: 12_345_678,
				},
				{
					Schema: "clinic", Table: "Visits", Name: "visits_fk", Columns: []string{"Ward", "bed"},
					ReferencedSchema: "clinic", ReferencedTable: "beds", EstimatedRows: 12, Partitioned: true, OnParent: true, Partitions: 2,
					PartitionsWithout:      []reading.Relation{{Schema: "clinic", Name: "visits_2025"}, {Schema: "clinic", Name: "visits_2026"}},
					PartitionsWithoutTotal: 2,
				},
			},
		},
		Skipped: []reading.Skipped{
			{Section: reading.SectionTables, Query: "exact size of clinic.imports", Reason: "somebody holds it locked, or it is being dropped"},
			{Section: reading.SectionConnections, Query: "sessions of other roles", Reason: "the state of 2 sessions is hidden from this role: grant it pg_monitor"},
		},
		Cost: reading.Cost{Queries: 14, Seconds: 0.0457},
	}
}

func report(r *reading.Reading) render.Report {
	return render.NewReport(noon.Add(2*time.Second), r, judge.Analyse(r, nil, judge.DefaultThresholds()))
}

func text(t *testing.T, r *reading.Reading, opts render.TextOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.Text(&b, report(r), opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func healthy() *reading.Reading {
	r := clinic()
	r.Server.Settings = []reading.Setting{
		{Name: "autovacuum", Value: "on", Source: "default"}, {Name: "fsync", Value: "on", Source: "default"},
		{Name: "max_wal_size", Value: "1024", Unit: "MB", Source: "default"},
		{Name: "shared_buffers", Value: "131072", Unit: "8kB", Source: "configuration file"},
	}
	r.Connections = &reading.Connections{Used: 5, MaxConnections: 100, SuperuserReserved: 3, ByState: []reading.StateCount{{State: "idle", Connections: 5}}}
	r.Cache = &reading.Cache{LifetimeHits: 999_000, LifetimeReads: 1000}
	r.Tables = &reading.Tables{Total: 1, Items: r.Tables.Items[:1], WithoutPrimaryKey: []reading.KeylessTable{}}
	r.Indexes = &reading.Indexes{}
	r.Skipped = []reading.Skipped{}
	proven := &reading.BackupState{
		ID: "20261122T090000Z-7f3a9c", SnapshotAt: r.TakenAt.Add(-3 * time.Hour), Proof: pgmedic.ProofProven,
		ProofAt: r.TakenAt.Add(-2 * time.Hour), RecoverySeconds: 74,
	}
	r.Backups = &reading.Backups{Count: 12, Newest: proven, Proven: proven}
	return r
}

func TestTextGolden(t *testing.T) {
	tests := map[string]*reading.Reading{
		"troubled": clinic(),
		"healthy":  healthy(),
		"busy":     busy(),
		"nothing":  {Format: 1, TakenAt: noon, Database: "d", Server: reading.Server{Version: "19beta1", Role: reading.RoleStandby}},
	}
	for name, r := range tests {
		t.Run(name, func(t *testing.T) {
			got := text(t, r, render.TextOptions{})
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("not as in %s (go test -update writes it anew):\n%s", file, got)
			}
		})
	}
}

func TestTextFitsItsWidth(t *testing.T) {
	r := clinic()
	r.Indexes.ForeignKeysWithoutIndex[0].Table = strings.Repeat("long_", 40)
	for _, width := range []int{0, 60, 80, 100, 140} {
		limit := width
		if width == 0 {
			limit = 100
		}
		fix := false
		for line := range strings.SplitSeq(text(t, r, render.TextOptions{Width: width}), "\n") {
			switch {
			case line == "    Fix:":
				fix = true
			case fix && strings.HasPrefix(line, "      "):
				continue // SQL is never broken.
			default:
				fix = false
			}
			if n := lipgloss.Width(line); n > limit {
				t.Errorf("%d of %d columns: %s", n, limit, line)
			}
		}
	}
}

func TestFixesArePastable(t *testing.T) {
	r := report(clinic())
	out := text(t, clinic(), render.TextOptions{})
	for _, f := range r.Findings {
		for line := range strings.SplitSeq(f.Fix, "\n") {
			if line != "" && !strings.Contains(out, "\n      "+line+"\n") {
				t.Errorf("not on a line of its own: %s", line)
			}
		}
	}
}

func TestColourChangesNoText(t *testing.T) {
	coloured := text(t, clinic(), render.TextOptions{Color: true})
	stripped := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(coloured, "")
	if stripped == coloured {
		t.Fatal("there is no colour")
	}
	if want := text(t, clinic(), render.TextOptions{}); stripped != want {
		t.Errorf("the text differs:\n%s", stripped)
	}
}

func TestNamesCannotDriveTheTerminal(t *testing.T) {
	for _, r := range text(t, clinic(), render.TextOptions{}) {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e {
			t.Errorf("the report holds %U", r)
		}
	}
}

func TestVerdictCountsAndNamesTheWorst(t *testing.T) {
	if v := report(clinic()).Verdict; v != "1 critical, 5 warnings, 5 notes. Most urgent: connections near limit (server). 2 checks were skipped." {
		t.Error(v)
	}
	if v := report(healthy()).Verdict; v != "Nothing needs doing now." {
		t.Error(v)
	}
}
