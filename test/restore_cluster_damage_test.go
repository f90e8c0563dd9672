package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// damageTo is what befalls a stored object, of which there are others of the same kind: a
// neighbour, one of another epoch of WAL, and one of another server. Nil is an object that
// is removed.
type damageTo func(o storedObject) []byte

type storedObject struct{ text, neighbour, epoch, server []byte }

func clusterDamages() map[string]damageTo {
	return map[string]damageTo{
		"flip":           func(o storedObject) []byte { o.text[len(o.text)/2] ^= 1; return o.text },
		"cut":            func(o storedObject) []byte { return o.text[:len(o.text)/2] },
		"empty":          func(storedObject) []byte { return []byte{} },
		"remove":         func(storedObject) []byte { return nil },
		"swap":           func(o storedObject) []byte { return o.neighbour },
		"another epoch":  func(o storedObject) []byte { return o.epoch },
		"another server": func(o storedObject) []byte { return o.server },
	}
}

// TestRestoreClusterDamaged: whatever object of a backup or of its WAL is damaged, and
// however, no server is open that lacks a row: the restore is refused, or the damage does
// not matter and all rows are there. Where an object of WAL is missing, the time until
// which the cluster is said to be recoverable is reached.
//
// In make test-all at most 2 objects of a kind are damaged, and in make chaos all.
func TestRestoreClusterDamaged(t *testing.T) {
	testkit.OnlyAll(t, "a restore for each object and kind of damage")
	b := newWALBench(t, 0)
	b.streamed(func() { b.sql("INSERT INTO ledger VALUES (1, 'before')") }, func() {
		b.sql("INSERT INTO ledger SELECT g, repeat('a', 1000) FROM generate_series(2, 2000) AS g")
	})
	// Another epoch of WAL.
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.sql("INSERT INTO ledger SELECT g, repeat('b', 1000) FROM generate_series(2001, 4000) AS g")
	want, position := b.ask(ledgerSum), b.ask("SELECT pg_current_wal_lsn()::text")
	b.sql("INSERT INTO ledger VALUES (-1, 'too late')")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	foreign := b.foreign()
	c := b.restoring()
	n, refused, reached := 0, 0, 0
	codes := map[int]int{}
	for kind, files := range c.objects(1000) {
		for i, file := range testkit.Pick(kind, testkit.Amount(0, 2, 1000), files) {
			for what, damage := range clusterDamages() {
				o := storedObject{text: readFile(t, file), neighbour: readFile(t, files[(i+1)%len(files)])}
				if j := slices.IndexFunc(files, func(other string) bool {
					return filepath.Dir(other) != filepath.Dir(file) && epochOf(other) != epochOf(file)
				}); j >= 0 {
					o.epoch = readFile(t, files[j])
				}
				if there := foreign[kind]; len(there) > 0 {
					o.server = readFile(t, there[min(i, len(there)-1)])
				}
				text := slices.Clone(o.text)
				after := damage(o)
				if len(text) == 0 || after == nil && what != "remove" {
					continue // there is no other one of the kind
				}
				mend := c.replace(file, after)
				n++
				tried := c.restoreDamaged(damagedObject{kind, file, what}, "d"+strconv.Itoa(n), position, want)
				codes[tried.code]++
				if tried.refused {
					refused++
				}
				if tried.code != 0 && what == "remove" && (kind == "segment" || kind == "tail") && c.reachesWhatItSays(filepath.Join(c.place, "u"+strconv.Itoa(n))) {
					reached++
				}
				mend()
				t.Logf("%s of %s %d: exit code %d", what, kind, i, tried.code)
			}
		}
	}
	t.Logf("%d damages, %d restores refused, exit codes %v; the stated end was reached %d times", n, refused, codes, reached)
	if refused < 40 || reached == 0 {
		t.Errorf("%d of %d were refused, and %d ends reached: the damage is not where it is read", refused, n, reached)
	}
}

// damagedObject is a stored object, and what befell it.
type damagedObject struct{ kind, file, what string }

// damagedRestore is how a restore of a damaged store ended.
type damagedRestore struct {
	code    int
	refused bool
}

// restoreDamaged restores from a store in which an object is damaged: either all rows are there,
// or it ends with one error, and leaves nothing that starts.
func (c *clusterBench) restoreDamaged(of damagedObject, folder, position, want string) damagedRestore {
	t := c.t
	t.Helper()
	port, dir := c.port(), filepath.Join(c.place, folder)
	r := c.asReader("restore", "--json", "--yes", "--target-dir", dir, "--to-lsn", position, "--start", "--start-port", port)
	done := damagedRestore{code: r.code, refused: r.code != 0 && r.code != 15}
	pid := pidOf(filepath.Join(dir, "postmaster.pid"))
	_, control := os.Stat(filepath.Join(dir, "global", "pg_control"))
	name := strings.TrimPrefix(of.file, c.store)
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	last := lines[len(lines)-1] // warnings come before it
	// WAL and histories are read while PostgreSQL recovers: docs/limits.md.
	whileRecovering := slices.Contains([]string{"segment", "tail", "history"}, of.kind) && strings.Contains(r.stderr+r.stdout, "the recovery stopped, and the server is not open")
	switch {
	case !done.refused:
		if got := c.asks(port, ledgerSum); got != want {
			t.Errorf("%s %s: exit code %d, and the ledger is %s, want %s", of.what, name, r.code, got, want)
		}
	case pid > 0:
		t.Errorf("%s %s: exit code %d, and a server runs: %s", of.what, name, r.code, r.stderr)
	case strings.Count(r.stderr, `{"error":`) != 1 || !strings.HasPrefix(last, `{"error":`):
		t.Errorf("%s %s: exit code %d, and not one error: %s", of.what, name, r.code, r.stderr)
	case whileRecovering:
		if r.code != 1 {
			t.Errorf("%s %s: exit code %d: %s", of.what, name, r.code, r.stderr)
		}
	case r.code != 10 && r.code != 11 && r.code != 12:
		t.Errorf("%s %s: exit code %d: %s", of.what, name, r.code, r.stderr)
	case !os.IsNotExist(control):
		t.Errorf("%s %s: exit code %d, and what is left can be started: %v", of.what, name, r.code, control)
	}
	if pid > 0 {
		c.end(pid, syscall.SIGQUIT) // nothing of it is needed
	}
	// What fetches WAL ahead of a recovery that has failed ends by itself, and writes there until then.
	testkit.Eventually(t, time.Minute, "the folder goes", func() bool { return os.RemoveAll(dir) == nil })
	return done
}

// reachesWhatItSays recovers to the time until which wal status says that it can be, and
// reports whether it says one.
func (c *clusterBench) reachesWhatItSays(dir string) bool {
	c.t.Helper()
	var got struct {
		Clusters []struct {
			Windows []struct{ From, Until struct{ Time time.Time } }
		}
	}
	r := c.asReader("wal", "status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Clusters) != 1 {
		c.t.Fatalf("wal status: exit code %d, %v, %s%s", r.code, err, r.stdout, r.stderr)
	}
	windows := got.Clusters[0].Windows
	if len(windows) == 0 {
		return false
	}
	last := windows[len(windows)-1]
	if last.From.Time.IsZero() || last.Until.Time.Before(last.From.Time) {
		return false // then no time is promised
	}
	until := last.Until.Time.UTC().Format("2006-01-02 15:04:05.000000+00")
	r = c.asReader("restore", "--json", "--yes", "--target-dir", dir, "--to-time", until, "--start", "--start-port", c.port())
	if r.code != 0 {
		c.t.Errorf("it is said to be recoverable until %s: exit code %d, %s", until, r.code, r.stderr)
	}
	if pid := pidOf(filepath.Join(dir, "postmaster.pid")); pid > 0 {
		c.stop(pid)
	}
	_ = os.RemoveAll(dir)
	return r.code == 0
}

// epochOf is the epoch of an object of WAL, or the backup of another one.
func epochOf(file string) string {
	_, below, _ := strings.Cut(file, string(filepath.Separator)+"clinic"+string(filepath.Separator))
	parts := strings.Split(below, string(filepath.Separator))
	if len(parts) > 2 && parts[0] == "@wal" {
		return parts[2]
	}
	return ""
}

// replace has a stored object be another one, or none.
func (c *clusterBench) replace(file string, text []byte) (mend func()) {
	t := c.t
	t.Helper()
	was, user := readFile(t, file), ownerOf(t, file)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text []byte) {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if text == nil {
			return
		}
		if err := os.WriteFile(file, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, int(user.Uid), int(user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	put(text)
	return func() { put(was) }
}

// foreign are the objects of another server, which were sealed to the same key under the
// same name.
func (b *walBench) foreign() map[string][]string {
	b.t.Helper()
	other := newWALBench(b.t, 0)
	for _, kv := range b.env {
		if strings.HasPrefix(kv, "BACKUP_RECIPIENTS=") {
			other.env = append(other.env, kv)
		}
	}
	other.streamed(func() {}, func() {
		other.sql("INSERT INTO ledger SELECT g, repeat('o', 1000) FROM generate_series(1, 4000) AS g")
	})
	return (&clusterBench{walBench: other}).objects(1000)
}

func pidOf(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

// objects are stored objects of each kind, at most so many of one.
func (c *clusterBench) objects(most int) map[string][]string {
	c.t.Helper()
	all := map[string][]string{}
	for kind, pattern := range map[string]string{
		"manifest": "@cluster/*/manifest.json*", "pack": "@cluster/*/pack-*", "files": "@cluster/*/files*", "server manifest": "@cluster/*/pg_manifest*", "keys": "@cluster/*/keys/*",
		"epoch": "@wal/*/*/epoch.json", "WAL keys": "@wal/*/*/keys/*", "segment": "@wal/*/*/seg/*/*", "tail": "@wal/*/*/tail/*/*", "index": "@wal/*/*/index/*",
		"seen": "@wal/*/*/seen/*", "base": "@wal/*/*/base/*", "history": "@wal/*/*/hist/*", "gap": "@wal/*/*/gap/*",
	} {
		files, err := filepath.Glob(filepath.Join(c.store, "clinic", filepath.FromSlash(pattern)))
		if err != nil {
			c.t.Fatal(err)
		}
		if len(files) > 0 { // this archive can have none
			all[kind] = files[:min(len(files), most)]
		}
	}
	return all
}
