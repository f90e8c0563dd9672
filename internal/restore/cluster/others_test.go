package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestDeltaOfUpgraded: the folder of a tablespace holds that of the cluster's version and,
// after an upgrade, that of the new cluster, which is not deleted.
func TestDeltaOfUpgraded(t *testing.T) {
	files := sampleFiles()
	delete(files, "pg_tblspc/16395/PG_15/5/9")
	files["pg_tblspc/16395/PG_15_202209061/5/9"] = []byte("nine")
	s := newSample(t, files)
	s.options.Plan.Tablespaces = append(s.options.Plan.Tablespaces, recovery.Tablespace{OID: 16400, From: "/created", To: filepath.Join(t.TempDir(), "created")})
	s.options.Source.Backup.Physical.CatalogVersion = 202209061
	if _, err := s.restore(); err != nil {
		t.Fatal(err)
	}
	var live, old []string
	for _, space := range s.options.Plan.Tablespaces {
		live = append(live, filepath.Join(space.To, "PG_16_202307071/5/9"))
		old = append(old, filepath.Join(space.To, "PG_15_202209061/6/9"))
	}
	for _, file := range slices.Concat(live, old) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("live"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s.options.Delta = true
	done, err := s.restore()
	if err != nil || !slices.Equal(done.Delete, []string{"pg_tblspc/16395/PG_15_202209061/6", "pg_tblspc/16400/PG_15_202209061"}) {
		t.Errorf("deleted %v, %v", done.Delete, err)
	}
	for _, file := range live {
		if text, err := os.ReadFile(file); string(text) != "live" {
			t.Errorf("of the other cluster: %q, %v", text, err)
		}
	}
	for _, file := range old {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is still there", file)
		}
	}
}

// TestTablespaceInTheFolderOfAnother: WAL can create a tablespace where it has dropped one.
func TestTablespaceInTheFolderOfAnother(t *testing.T) {
	s := newSample(t, sampleFiles())
	again := s.options.Plan.Tablespaces[0]
	again.OID = 16400
	s.options.Plan.Tablespaces = append(s.options.Plan.Tablespaces, again)
	for _, s.options.Delta = range []bool{false, true} {
		done, err := s.restore()
		if err != nil || done.Deletions != 0 {
			t.Fatalf("%+v, %v (%s)", done, err, pgmedic.HintOf(err))
		}
		if text, err := os.ReadFile(filepath.Join(again.To, "PG_15/5/9")); string(text) != "nine" {
			t.Errorf("its file is %q, %v", text, err)
		}
	}
	again.From = "/another"
	s.options.Plan.Tablespaces = append(s.options.Plan.Tablespaces, again)
	if _, err := s.restore(); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("two tablespaces in one folder: %v", err)
	}
}

// TestOldSettings: without a position to stop at, no target of an earlier recovery is in
// force, whichever file it is in; and no file leads PostgreSQL to another folder.
func TestOldSettings(t *testing.T) {
	for _, how := range []wal.StopKind{wal.StopAtEnd, wal.StopImmediate, wal.StopAtLSN} {
		files := sampleFiles()
		files["postgresql.conf"] = []byte("data_directory = '/var/lib/live'\ndata_directory_mode = 1\ninclude 'old.conf'\n")
		s := newSample(t, files)
		if s.options.Plan.WAL.Stop = how; how != wal.StopAtLSN {
			s.options.Plan.WAL.LSN = 0
		}
		if _, err := s.restore(); err != nil {
			t.Fatal(err)
		}
		got := s.tree()
		if want := "-rw------- # pgmedic: data_directory = '/var/lib/live'\ndata_directory_mode = 1\ninclude 'old.conf'\n"; got["postgresql.conf"] != want {
			t.Errorf("%s: %q", how, got["postgresql.conf"])
		}
		for _, name := range []string{"recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"} {
			if empty := strings.Contains(got["postgresql.auto.conf"], "\n"+name+" = ''\n"); empty == (how == wal.StopAtLSN) {
				t.Errorf("%s: %s is empty: %t", how, name, empty)
			}
		}
	}
}

// TestOldSettingsOfServers: PostgreSQL recovers to the plan's end, and opens the folder that
// it is started on, whatever a file says that the configuration includes.
func TestOldSettingsOfServers(t *testing.T) {
	testkit.OnlyAll(t, "a server and two recoveries for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, major)
			b.run("CREATE TABLE public.ledger (n int)", "INSERT INTO public.ledger VALUES (1)")
			config := filepath.Join(b.server.DataDir(), "postgresql.conf")
			text, err := os.ReadFile(config)
			if err == nil {
				err = os.WriteFile(config, append(text, "\ninclude 'old.conf'\n"...), 0o600)
			}
			old := "recovery_target = 'immediate'\nrecovery_target_action = 'pause'\ndata_directory = '/nowhere'\n"
			if err = errors.Join(err, os.WriteFile(filepath.Join(b.server.DataDir(), "old.conf"), []byte(old), 0o600)); err != nil {
				t.Fatal(err)
			}
			backup := b.backup()
			b.run("INSERT INTO public.ledger VALUES (2)")
			b.storeWAL()
			for kind, rows := range map[wal.TargetKind]int64{wal.TargetEnd: 2, wal.TargetBackup: 1} {
				p, dir := b.plan(backup, wal.Target{Kind: kind}), filepath.Join(b.folder("to-"+string(kind)), "data")
				if _, err := cluster.Restore(t.Context(), b.options(backup, p, dir)); err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if got := postgrestest.Query[int64](t, b.recovered(dir, p), "SELECT count(*) FROM public.ledger"); got != rows {
					t.Errorf("%s: %d rows, want %d", kind, got, rows)
				}
			}
		})
	}
}
