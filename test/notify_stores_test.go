package test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestDeletedIsReported: what prune and a backup's retention have deleted is reported where
// successes are: how much, and what remains. Marks, plans and what stays are not.
func TestDeletedIsReported(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
	r := newReceiver(t)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL, "PGMEDIC_SERVER=main")
	b.write("pgmedic.yaml", "retention: {days: 30d, last: 1, grace: 0s}\nnotifications: {on_success: always}\n")
	_, old := b.history(1, 40, 50)
	r.taken()
	expect := func(want string, args ...string) notify.Event {
		t.Helper()
		b.ok(args...)
		events, line := r.taken()
		i := slices.IndexFunc(events, func(e notify.Event) bool { return e.Name == "prune.deleted" })
		if line != want || i < 0 && strings.Contains(want, "prune.deleted") {
			t.Errorf("pgmedic %s: reported %q, want %q", strings.Join(args, " "), line, want)
			return notify.Event{}
		}
		return events[max(i, 0)]
	}
	b.ok("prune", "--dry-run", "--only", "backups")
	if _, line := r.taken(); line != "" {
		t.Errorf("a plan is reported: %s", line)
	}
	prune := []string{"prune", "--yes", "--only", "backups", "--max-share", "100%"}
	expect("prune.succeeded info", prune...) // marks
	e := expect("prune.deleted info", prune...)
	if !strings.HasPrefix(e.Summary, "deleted by retention: 2 backups (") || !strings.HasSuffix(e.Summary, "); 2 backups remain") ||
		e.Severity != "info" || e.Target.Server != "main" || e.Target.Database != b.database || len(e.Evidence) != 1 ||
		e.Evidence[0].Name != "deleted in "+b.store || !strings.Contains(e.Evidence[0].Value, old[1]) || !strings.Contains(e.Evidence[0].Value, old[2]) {
		t.Errorf("%+v", e)
	}
	expect("prune.succeeded info", prune...) // nothing

	// A backup that prunes says the same.
	b.write("pgmedic.yaml", "retention: {days: 1d, last: 1, grace: 0s, after_backup: true}\nnotifications: {on_success: always}\n")
	expect("backup.succeeded info", "backup")
	e = expect("backup.succeeded info, prune.deleted info", "backup")
	if !strings.HasPrefix(e.Summary, "deleted by retention: 1 backup (") || !strings.HasSuffix(e.Summary, "); 3 backups remain") || e.Target.Database != b.database {
		t.Errorf("%+v", e)
	}
}

// TestNearlyFullIsReported: a store whose file system is nearly full is reported by each job
// that writes there, before a backup fails for it, and so is its end. A check warns of it.
func TestNearlyFullIsReported(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
	r := newReceiver(t)
	r.rooms = true
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL)
	copied := filepath.Join(b.dir, "copied")
	const of = "report: {thresholds: {disk_warn_percent: "
	write := func(thresholds string) {
		b.write("pgmedic.yaml", of+thresholds+"}}\ncopies: [{name: other, store: "+copied+"}]\n")
	}
	expect := func(want string, args ...string) []notify.Event {
		t.Helper()
		got := b.run(args...)
		events, line := r.taken()
		if got.code != 0 || line != want {
			t.Errorf("pgmedic %s: exit code %d; reported %q, want %q\n%s", strings.Join(args, " "), got.code, line, want, got.stderr)
		}
		return events
	}
	// Any disk is fuller than that.
	write("0.0001, disk_critical_percent: 100")
	events := expect("store.nearly_full firing, store.nearly_full firing", "backup")
	if len(events) == 2 {
		e := events[0]
		if e.Severity != "warn" || e.Object != b.store || events[1].Object != "other" || !strings.Contains(e.Summary, " % full: ") || !strings.HasSuffix(e.Summary, " are free") || e.Target.Database != "" {
			t.Errorf("%+v", events)
		}
	}
	if out := b.ok("check"); strings.Count(out, "the file system of the store is ") != 2 {
		t.Errorf("check says\n%s", out)
	}
	write("0.0001, disk_critical_percent: 0.0001")
	if events := expect("store.nearly_full firing, store.nearly_full firing", "copy", "--all"); len(events) == 2 && events[0].Severity != "critical" {
		t.Errorf("%+v", events)
	}
	expect("", "verify", "latest") // which needs no room
	// And no disk as full as that.
	write("100, disk_critical_percent: 100")
	events = expect("store.has_room resolved, store.has_room resolved", "backup")
	if len(events) == 2 && (!strings.Contains(events[0].Summary, " has room: ") || events[0].Count != 2) {
		t.Errorf("%+v", events[0])
	}
	expect("", "backup")
	if out := b.ok("check"); strings.Contains(out, "the file system of the store is ") {
		t.Errorf("check says\n%s", out)
	}
}

// TestShrunkIsReported: a backup that has far less than those before it is reported when it is
// taken, once, without its rows; and so is its end, by a backup that grew again or that a label
// announces. A partial backup says nothing of either.
func TestShrunkIsReported(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 2000) AS id")
	r := newReceiver(t)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL, "PGMEDIC_SERVER=main")
	expect := func(want string, args ...string) (id string, e notify.Event) {
		t.Helper()
		got := b.run(append([]string{"backup", "--quiet"}, args...)...)
		events, line := r.taken()
		if got.code != 0 || line != want {
			t.Errorf("pgmedic backup %s: exit code %d; reported %q, want %q\n%s", strings.Join(args, " "), got.code, line, want, got.stderr)
		}
		if len(events) == 1 {
			e = events[0]
		}
		return strings.TrimSpace(got.stdout), e
	}
	good, _ := expect("")
	mustExec(t, b.database, "DELETE FROM public.visits")
	bad, e := expect("backup.shrunk firing")
	if e.Severity != "warn" || e.Target.Server != "main" || e.Target.Database != b.database ||
		e.Summary != "backup "+bad+" has far less than those before it: 100 % fewer rows (0 instead of 2,000); was data deleted?" ||
		e.Command != "pgmedic diff "+good+" "+bad || !strings.Contains(e.Hint, "restore "+good) || !strings.Contains(e.Hint, "--label shrunk=expected") {
		t.Errorf("%+v", e)
	}
	fired := e.Fingerprint
	expect("") // it is shrunk, too
	expect("", "--exclude-table-data", "visits")
	mustExec(t, b.database, "INSERT INTO public.visits SELECT generate_series(1, 2000)")
	grown, e := expect("backup.not_shrunk resolved")
	if e.Fingerprint != fired || e.Count != 2 || e.Summary != "backup "+grown+" no longer has far less than those before it" {
		t.Errorf("%+v", e)
	}

	mustExec(t, b.database, "DELETE FROM public.visits")
	if _, e = expect("backup.shrunk firing"); e.Fingerprint != fired || !strings.Contains(e.Hint, "restore "+grown) {
		t.Errorf("%+v", e)
	}
	if announced, e := expect("backup.not_shrunk resolved", "--label", "shrunk=expected"); e.Summary != "the label shrunk=expected of backup "+announced+" says that the deletion was intended" {
		t.Errorf("%+v", e)
	}
	expect("")
}
