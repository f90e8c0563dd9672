package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

func (r *runbook) first() {
	r.bash("pgmedic drill latest", 0)
	r.says(r.follow("first"), `^`+r.id+` .* clinic-db1 .* proven .* 2 of 2`, `recovers in `)
}

func (r *runbook) lostServer() {
	r.says(r.follow("lost-server-look"), `^nothing was made`, `globals +made: nurse`)
	if got := r.databasesOf(r.spare); got != "" {
		r.t.Errorf("a look made %s", got)
	}
	r.says(r.follow("lost-server"), `^restored backup `+r.id+` into database clinic in `, `ok +row counts`, `globals +made: nurse`)
	r.wantClaims(r.spare, "clinic", 500)
	if owner := fixture.Query[string](r.t, r.spare.DSN("clinic"), "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'claims'"); owner[0] != "nurse" {
		r.t.Errorf("the claims are %s's", owner)
	}
	r.says(r.follow("lost-server-after"), `^ +500$`, `^backed up clinic`)
	if id := strings.Fields(r.bash("pgmedic list -q", 0)); len(id) != 2 {
		r.t.Errorf("backups are %q", id)
	}
	// The new server's is the latest, and an older one is of another server.
	r.bash("sed -i 's#"+r.old.SocketDir()+"#"+r.spare.SocketDir()+"#' "+r.at("etc/pgmedic.yaml"), 0)
	if latest := r.bash("pgmedic verify latest -q", 0); strings.Contains(latest, r.id) {
		r.t.Errorf("latest is %s still", latest)
	}
	r.says(r.bash("pgmedic restore "+r.id+" --swap --dry-run", 2), `--from-server clinic-db1`)
	r.bash("pgmedic restore "+r.id+" --swap --dry-run --from-server clinic-db1", 0)
}

func (r *runbook) lostStore() {
	if err := os.Rename(r.at("store"), r.at("gone")); err != nil {
		r.t.Fatal(err)
	}
	r.bash("pgmedic list", 10)
	r.says(r.follow("lost-store"), `^proven: `)
	r.says(r.follow("lost-store-copies"), r.id, `^verified: backup `+r.id)
	r.says(r.follow("lost-store-refill"), r.id+` .* 2 of 2`)
	if ids := strings.Fields(r.bash("pgmedic list -q", 0)); len(ids) != 3 {
		r.t.Errorf("backups are %q", ids)
	}
	r.bash("pgmedic verify --all", 0)
}

func (r *runbook) lostKey() {
	if err := os.Remove(r.at("etc/identity.txt")); err != nil {
		r.t.Fatal(err)
	}
	r.bash("pgmedic drill latest", 2)
	r.env = append(r.env, "PGMEDIC_IDENTITY_FILES=")
	r.says(r.bash("pgmedic drill latest", 2), `this host has no key`)
	r.says(r.follow("lost-key-list"), `^recipient-[0-9a-f]{8} +X25519 +no +age1`)
	r.says(r.follow("lost-key-found"), `^proven: `)
	added := "PGMEDIC_IDENTITY_FILES=" + r.at("etc/identity-new.txt")
	r.says(r.bash(added+" pgmedic verify latest", 0), `^verified: `)
	// And nobody has any.
	if err := os.Remove(r.at("etc/identity-new.txt")); err != nil {
		r.t.Fatal(err)
	}
	r.says(r.follow("lost-key-gone"), `^backed up clinic`, `^proven: `)
	r.says(r.bash(added+" pgmedic keys list latest", 0), ` yes `)
	r.bash(added+" pgmedic verify "+r.id, 2)
}

func (r *runbook) byHand() {
	if err := os.Remove(r.at("bin/pgmedic")); err != nil {
		r.t.Fatal(err)
	}
	r.live("DELETE FROM claims")
	r.says(r.follow("by-hand"), r.id+`/manifest.json$`, `^manifest.json: OK$`)
	r.says(r.follow("by-hand-swap"), `^ +500$`, `^COMMIT$`)
	r.wantClaims(r.old, "clinic", 500)
	r.wantClaims(r.old, "clinic_broken", 0)
}

func (r *runbook) deletedTable() {
	r.live("DROP TABLE claims CASCADE")
	r.says(r.follow("deleted-table-look"), `^nothing was changed: 1 table `, `VIEW public.open_claims`)
	r.says(r.follow("deleted-table-in-place"), `^put back `, `made again with 500 rows`, `^ +500$`)
	r.wantClaims(r.old, "clinic", 500)
	r.live("INSERT INTO claims (patient) VALUES (1)", "DELETE FROM open_claims WHERE id > 500") // its counter goes on, and its view is there
	r.follow("deleted-table-in-place-tidy")
	r.noRescue()
	r.live("DROP TABLE claims CASCADE")
	r.says(r.follow("deleted-table-copy", "deleted-table"), `^clinic_copy: 500$`, `^clinic: 500$`)
	r.wantClaims(r.old, "clinic", 500)
	r.says(r.follow("deleted-table-rest"), `^> CREATE VIEW public.open_claims`)
	r.live("INSERT INTO claims (patient) VALUES (1)") // its counter went on
	r.live("DROP TABLE claims CASCADE")
	r.says(r.follow("deleted-table-large"), `^backup: 500$`, `^clinic: 500$`)
	r.wantClaims(r.old, "clinic", 500)
	r.live("INSERT INTO claims (patient) VALUES (1)")
	r.follow("deleted-table-tidy")
	r.noRescue()
	if got := r.databasesOf(r.old); got != "clinic" {
		r.t.Errorf("databases are %s", got)
	}
}

func (r *runbook) deletedRows() {
	r.live("DELETE FROM claims WHERE id > 400", "INSERT INTO claims (patient) VALUES (1)")
	r.says(r.follow("deleted-rows-look"), `the rows that it lacks are added`)
	r.wantClaims(r.old, "clinic", 401)
	r.says(r.follow("deleted-rows-in-place"), `100 missing rows added`, `^ +501$`)
	r.follow("deleted-rows-in-place-tidy")
	r.noRescue()
	r.live("DELETE FROM claims WHERE id > 500")
	r.live("DELETE FROM claims WHERE id > 400", "UPDATE claims SET payer = 'nobody' WHERE id <= 3")
	r.says(r.follow("deleted-rows"), `^"public"."claims": 500 rows in the backup$`, `\(100 rows\)`, `\(3 rows\)`)
	r.wantClaims(r.old, "clinic", 400)
	r.says(r.follow("deleted-rows-put-back"), `^INSERT 0 100$`)
	r.wantClaims(r.old, "clinic", 500)
	r.follow("deleted-rows-tidy")
	r.noRescue()
}

// noRescue sees that the live database has no schema of a rescue left.
func (r *runbook) noRescue() {
	r.t.Helper()
	if left := fixture.Query[string](r.t, r.old.DSN("clinic"), "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^pgmedic'"); len(left) > 0 {
		r.t.Errorf("schemas are left: %q", left)
	}
}

func (r *runbook) badMigration() {
	r.live("ALTER TABLE claims DROP COLUMN payer CASCADE", "DELETE FROM claims WHERE id > 10")
	r.bash("pgmedic backup", 0) // of the broken one: latest is not the one to take
	r.says(r.follow("migration-look"), `^nothing was made: .* would replace database clinic`)
	r.says(r.follow("migration-swap"), `^swapped: restored backup `+r.id, `kept +clinic__before_`, `safety backup +\d{8}T`, `undo +pgmedic rollback clinic`)
	r.wantClaims(r.old, "clinic", 500)
	r.says(r.follow("migration-kept"), `^ +10$`)
	r.says(r.follow("migration-rollback"), `^swapped: rolled back clinic in `)
	r.wantClaims(r.old, "clinic", 10)
	r.says(r.follow("migration-kept"), `^clinic__displaced_`, `^ +500$`)
	r.bash("pgmedic restore "+r.id+" --swap --skip-safety-backup tested", 0)
	r.says(r.follow("migration-kept"), `^clinic__before_`, `^ +10$`) // the last of two
}

func (r *runbook) breakIn() {
	r.bash("pgmedic copy --all --to "+r.at("offline"), 0)
	// The thief changes the backups that the hosts can reach, with their hashes.
	for _, place := range []string{"store", "offsite"} {
		r.bash("cd "+r.at(place)+"/clinic-db1/clinic/"+r.id+` && chmod u+w . * && sed -i 's/"rows": 500/"rows": 400/' manifest.json && sha256sum manifest.json > manifest.json.sha256`, 0)
	}
	r.says(r.follow("break-in-look"), `encrypted with age`, `^recipient-.* yes `, r.id)
	r.says(r.follow("break-in-look", "break-in-verify"), `^verified: backup `+r.id)
	r.says(r.follow("break-in-look", "break-in-drill"), `^proven: backup `+r.id)
	r.says(r.follow("break-in-look", "break-in-restore"), `^restored backup `+r.id, `nurse +\| f +\| t`)
	r.wantClaims(r.spare, "clinic", 500)
	r.follow("break-in-rotate")
	list := r.bash("unset PGMEDIC_CONFIG; PGMEDIC_IDENTITY_FILES="+r.at("etc/identity-new.txt")+" pgmedic verify latest --store "+r.at("offline"), 0)
	r.says(list, `^verified: `)
	r.says(r.end(11, "break-in-evidence"), `failed|was not written by who sealed`)
}

func (r *runbook) corrupt() {
	// The function that the index is made of changes its mind, as collations do
	// when a system is upgraded.
	r.live("CREATE OR REPLACE FUNCTION fold(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)'")
	r.says(r.end(2, "corrupt-look"), `claims_payer`)
	r.follow("corrupt-index")
	r.follow("corrupt-look")
	r.ruin()
	r.bash("psql -d clinic -c 'SELECT count(name) FROM patients'", 1)
	r.says(r.follow("corrupt-table"), `^proven: `, `^swapped: restored backup `+r.id, `safety backup +skipped: `)
	r.wantClaims(r.old, "clinic", 500)
	if n := fixture.Query[int64](r.t, r.old.DSN("clinic"), "SELECT count(name) FROM patients"); !slices.Equal(n, []int64{100}) {
		r.t.Errorf("%d patients", n)
	}
}

// ruin overwrites the patients on the disk, as a bad one does. The database is
// made anew from its files first, so that no page of it is in the server's
// buffers.
func (r *runbook) ruin() {
	r.t.Helper()
	admin := r.old.DSN("postgres")
	fixture.Exec(r.t, admin, "ALTER DATABASE clinic RENAME TO clinic_was", "CREATE DATABASE clinic TEMPLATE clinic_was STRATEGY FILE_COPY", "DROP DATABASE clinic_was")
	path := fixture.Query[string](r.t, r.old.DSN("clinic"), "SELECT pg_relation_filepath('patients')")[0]
	f, err := os.OpenFile(filepath.Join(r.old.DataDir(), path), os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err = f.WriteAt([]byte(strings.Repeat("\xa5", 8192)), 0); err == nil {
		err = f.Close()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// fullDisk has each thing that fills a disk, on one that is not full: a slot that
// nobody reads, and a database that a swap set aside.
func (r *runbook) fullDisk() {
	r.bash("pgmedic restore latest --swap --skip-safety-backup tested", 0)
	r.live("SELECT pg_create_physical_replication_slot('old_standby', true)")
	for range 3 {
		r.live("INSERT INTO patients SELECT i, 'more' FROM generate_series(1000, 1001) AS i", "DELETE FROM patients WHERE id >= 1000", "SELECT pg_switch_wal()")
	}
	out := r.follow("full-disk-look")
	r.says(out, `clinic__before_`, `set aside when clinic was replaced`, `^keep +clinic__before_`, `old_standby +\| physical +\| f +\| \d+ MB`, `temporary_files`)
	r.says(r.follow("full-disk-slot"), `^ *\d+ MB +\| +\d+`)
	if left := fixture.Query[string](r.t, r.old.DSN("postgres"), "SELECT slot_name::text FROM pg_replication_slots"); len(left) > 0 {
		r.t.Errorf("slots are left: %q", left)
	}
	// It was kept a moment ago, and the page's hour has not passed.
	r.says(r.follow("full-disk-kept"), `^keep +clinic__before_`)
	r.blocks["full-disk-kept"] = strings.ReplaceAll(r.blocks["full-disk-kept"], "1h", "1ms")
	r.says(r.follow("full-disk-kept"), `^dropped +clinic__before_`)
	if got := r.databasesOf(r.old); got != "clinic" {
		r.t.Errorf("databases are %s", got)
	}
	r.follow("full-disk-temporary")
	r.says(r.follow("full-disk-after"), `^backed up clinic`)
}

func (r *runbook) halfDone() {
	mortal(r.t)
	r.live("DELETE FROM claims")
	die := func() {
		r.bash("PGMEDIC_FAILPOINT=kill:restore-ready "+binary+"-failpoint restore latest --swap --yes || exit 99", 99)
		testkit.Eventually(r.t, time.Minute, "its sessions have ended", func() bool {
			return fixture.Query[int64](r.t, r.old.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgmedic'")[0] == 0
		})
		if got := r.databasesOf(r.old); !strings.Contains(got, "__restore_") {
			r.t.Errorf("databases are %s", got)
		}
		r.wantClaims(r.old, "clinic", 0)
	}
	die()
	r.says(r.follow("half-done-no"), `__restore_`)
	if got := r.databasesOf(r.old); got != "clinic" {
		r.t.Errorf("databases are %s", got)
	}
	die()
	r.says(r.follow("half-done"), `^swapped: `)
	r.wantClaims(r.old, "clinic", 500)
	r.says(r.follow("half-done"), `is complete`)
}

func (r *runbook) tonight() {
	// A file where the folder should be: nothing can be written there.
	if err := os.Rename(r.at("store"), r.at("kept")); err != nil {
		r.t.Fatal(err)
	}
	r.write("store", "", 0o644)
	out := r.end(12, "tonight-check")
	r.says(out, `^failed +store `)
	r.end(12, "tonight-again")
	r.says(r.follow("tonight-elsewhere"), `^proven: `)
	r.says(r.follow("tonight-last-resort"), `^it can be read$`)
	err := os.Remove(r.at("store"))
	if err == nil {
		err = os.Rename(r.at("kept"), r.at("store"))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.says(r.follow("tonight-check", "tonight-again"), `^backed up clinic`)
}
