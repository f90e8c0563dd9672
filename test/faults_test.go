package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// plant puts a word that is easy to find into rows.
const planted = "Planted-Patient-4711"

// plantedPatients are some 40 MB that hardly compress, and every row is
// recognised.
func plantedPatients() []string {
	return []string{
		"CREATE TABLE patients (id int PRIMARY KEY, name text, notes text)",
		"INSERT INTO patients SELECT i, '" + planted + "', md5(random()::text) || md5(random()::text) || md5(random()::text) FROM generate_series(1, 400000) AS i",
	}
}

// wantNoRows fails the test if a run tells of rows.
func wantNoRows(t *testing.T, r result) {
	t.Helper()
	if strings.Contains(r.stdout+r.stderr, planted) {
		t.Errorf("a row is told of:\n%s%s", r.stdout, r.stderr)
	}
}

// TestS3Faults takes the store, or the right to it, from under a parallel backup
// that uploads.
func TestS3Faults(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel() // it mostly waits for a server that is gone
	s3 := s3test.Start(t, s3test.Options{})
	b := newBench(t, plantedPatients()...)
	b.env = append(b.env, "BACKUP_METHOD=parallel", "PGMEDIC_JOBS=2", "BACKUP_COMPRESSION=none", "PGMEDIC_LOG_LEVEL=debug")
	bucket := b.inBucket(s3)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	key, secret := s3.AccessKey, s3.SecretKey
	for name, befalls := range map[string]func(){
		"gone":                s3.Stop,
		"credentials expired": func() { s3.Restart("another", "anothersecret") },
	} {
		t.Run(name, func(t *testing.T) {
			b := b.within(t)
			objects := func() []string {
				return slices.DeleteFunc(s3.Objects(bucket), func(o string) bool { return !strings.Contains(o, id) })
			}
			before := objects()
			running, _ := b.startNarrow(s3, bucket, "backup")
			befalls()
			r := running.wait(2 * time.Minute)
			if r.code != 12 || !strings.Contains(r.stderr, "hint: ") || strings.Contains(r.stderr, secret) {
				t.Errorf("exit code %d\n%s", r.code, r.stderr)
			}
			wantNoRows(t, r)
			s3.Stop()
			s3.Restart(key, secret)
			if out := b.ok("list", "-q"); strings.TrimSpace(out) != id {
				t.Errorf("list says %q", out)
			}
			if after := objects(); !slices.Equal(after, before) {
				t.Errorf("of the earlier backup are left %q of %q", after, before)
			}
			b.ok("verify", id)
		})
	}
}

// TestLoadStated sees the load where a person and where a program looks.
func TestLoadStated(t *testing.T) {
	b := newBench(t, patients("1000")...)
	b.env = append(b.env, "BACKUP_METHOD=parallel", "PGMEDIC_JOBS=2")
	if out := b.ok("check"); !strings.Contains(out, "a backup opens up to 8; ") || !strings.Contains(out, "1 table; up to ") {
		t.Errorf("check says:\n%s", out)
	}
	for _, out := range []string{b.ok("backup"), b.ok("show")} {
		if !strings.Contains(out, "connections, snapshot held for ") || !strings.Contains(out, " read") {
			t.Errorf("no load in:\n%s", out)
		}
	}
	if out := b.ok("show", "--json"); !strings.Contains(out, `"load": {`) || !strings.Contains(out, `"snapshot_seconds": `) {
		t.Errorf("no load in:\n%s", out)
	}
	if r := b.run("backup", "--json"); r.stderr != "" {
		t.Errorf("with --json progress is told:\n%s", r.stderr)
	}
	if r := b.run("verify", "-q"); r.stderr != "" {
		t.Errorf("with -q progress is told:\n%s", r.stderr)
	}
}
