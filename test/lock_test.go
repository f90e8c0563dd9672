package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// shownLock is what show says of a backup's lock.
type shownLock struct {
	Mode  string    `json:"mode"`
	Until time.Time `json:"until"`
	Held  bool      `json:"held"`
	Asked bool      `json:"asked"`
}

func (b *bench) lock(id string) shownLock {
	b.t.Helper()
	var shown struct {
		Lock shownLock `json:"lock"`
	}
	if err := json.Unmarshal([]byte(b.ok("show", id, "--json")), &shown); err != nil {
		b.t.Fatal(err)
	}
	return shown.Lock
}

// configure writes the configuration file.
func (b *bench) configure(text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, "pgmedic.yaml"), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// lockingPlace is a bucket or container that can lock, and one beside it that can't.
type lockingPlace struct {
	store, plain string // URLs without a prefix
	access       string // the settings of a copy there, as a line of YAML
	env          []string
	cannot       string // what is said of the plain one
	objects      func(url string) []string
	destroy      func(name string) error // of the locking one, for good
	// versions is true where a deletion only hides.
	versions bool
	// away stops the server until back is called; nil where it can't come back.
	away func() (back func())
}

// lockingPlaces are those of each cloud. Azure and Google are models of what is documented.
func lockingPlaces() map[string]func(*testing.T) lockingPlace {
	return map[string]func(*testing.T) lockingPlace{"S3": lockingS3, "Azure": lockingAzure, "Google": lockingGoogle}
}

func lockingS3(t *testing.T) lockingPlace {
	s3 := s3test.Start(t, s3test.Options{Versions: true})
	bucket := s3.LockBucket()
	return lockingPlace{
		store: "s3://" + bucket, plain: "s3://" + s3.Bucket(), cannot: "has no Object Lock", versions: true,
		access:  "s3: {endpoint: '" + s3.Endpoint + "', path_style: true}",
		env:     append(s3.Environ(), "PGMEDIC_S3_ENDPOINT="+s3.Endpoint, "PGMEDIC_S3_PATH_STYLE=true"),
		objects: func(url string) []string { return s3.Objects(strings.TrimPrefix(url, "s3://")) },
		destroy: func(name string) error { return s3.DeleteVersions(bucket, name) },
		away: func() func() {
			key, secret := s3.AccessKey, s3.SecretKey
			s3.Stop()
			return func() { s3.Restart(key, secret) }
		},
	}
}

func lockingAzure(t *testing.T) lockingPlace {
	server := azuretest.Start(t)
	locks := server.Locks()
	container := locks.Container()
	return lockingPlace{
		store: "azblob://" + container, plain: "azblob://" + server.Container(), cannot: "has no version-level immutability",
		access:  "azure: {connection_string: '" + locks.ConnectionString() + "'}",
		env:     []string{"AZURE_STORAGE_CONNECTION_STRING=" + locks.ConnectionString()},
		objects: func(url string) []string { return server.Blobs(strings.TrimPrefix(url, "azblob://")) },
		destroy: func(name string) error { return locks.Delete(container, name) },
	}
}

func lockingGoogle(t *testing.T) lockingPlace {
	server := gcstest.Start(t)
	bucket, credentials := server.LockBucket(0), server.Credentials(true)
	return lockingPlace{
		store: "gs://" + bucket, plain: "gs://" + server.Bucket(), cannot: "object retention is not enabled",
		access:  "gcs: {endpoint: '" + server.Endpoint + "', credentials_file: '" + credentials + "'}",
		env:     []string{"PGMEDIC_GCS_ENDPOINT=" + server.Endpoint, "GOOGLE_APPLICATION_CREDENTIALS=" + credentials},
		objects: func(url string) []string { return server.Objects(strings.TrimPrefix(url, "gs://")) },
		destroy: func(name string) error { return server.Delete(bucket, name) },
	}
}

// TestObjectLock: backups are locked when they are written, whoever has the host's
// credentials can't delete them, holds lengthen that, and prune waits.
func TestObjectLock(t *testing.T) {
	for name, start := range lockingPlaces() {
		t.Run(name, func(t *testing.T) {
			if name != "S3" {
				testkit.OnlyAll(t, "it takes long")
			}
			testObjectLock(t, start(t))
		})
	}
}

func testObjectLock(t *testing.T, place lockingPlace) {
	b := newBench(t, patients("1000")...)
	b.env = append(b.env, "PGMEDIC_STORE="+place.store+"/db")
	b.env = append(b.env, place.env...)
	const locked = "backup:\n  object_lock: compliance\n"
	b.configure(locked + "retention:\n  days: 30d\n")
	if out := b.ok("check"); !strings.Contains(out, "objects are locked (compliance)") || strings.Contains(out, "keeps versions: what is deleted is only hidden") != place.versions {
		t.Errorf("check says:\n%s", out)
	}
	before := time.Now().UTC().Truncate(time.Second) // as locks are: no summer time, whole seconds
	first := strings.TrimSpace(b.ok("backup", "-q"))
	for _, name := range place.objects(place.store) {
		if !strings.Contains(name, first) {
			continue
		}
		if err := place.destroy(name); err == nil {
			t.Errorf("%s was deleted though it is locked", name)
		}
	}
	b.ok("verify", first)
	l := b.lock(first)
	if l.Mode != "compliance" || !l.Asked || l.Held || l.Until.Sub(before) < 30*24*time.Hour-time.Minute || l.Until.Sub(before) > 31*24*time.Hour {
		t.Errorf("locked %+v", l)
	}
	if out := b.ok("list"); !strings.Contains(out, "locked    "+first+"  until "+l.Until.Format("2006-01-02 15:04Z")) {
		t.Errorf("list says:\n%s", out)
	}
	if out := b.ok("show", first); !strings.Contains(out, "(compliance)") {
		t.Errorf("show says:\n%s", out)
	}

	// Another policy would delete it now; the lock is waited for.
	second := strings.TrimSpace(b.ok("backup", "-q"))
	b.configure(locked + "retention:\n  yearly: 1y\n  last: 1\n  grace: 0s\n")
	b.ok("prune", "--only", "backups", "--yes")
	for range 2 {
		out := b.ok("prune", "--only", "backups", "--yes")
		if !strings.Contains(out, "wait") || !strings.Contains(out, "locked until "+l.Until.Format("2006-01-02 15:04Z")) {
			t.Errorf("prune says:\n%s", out)
		}
	}
	if out := b.ok("list", "-q"); len(strings.Fields(out)) != 2 {
		t.Errorf("list says:\n%s", out)
	}

	// A hold without an end is a legal hold, one with an end a longer lock.
	b.ok("hold", second, "--reason", "case 118", "--name", "case")
	if l := b.lock(second); !l.Held {
		t.Errorf("held, and locked %+v", l)
	}
	b.ok("hold", second, "--reason", "audit", "--name", "audit", "--until", "2y")
	b.ok("hold", second, "--reason", "audit", "--name", "audit", "--until", "2y")
	if l := b.lock(second); !l.Held || l.Until.Before(before.AddDate(2, 0, 0)) {
		t.Errorf("held for two years, and locked %+v", l)
	}
	b.ok("release", second, "--name", "case")
	if l := b.lock(second); l.Held || l.Until.Before(before.AddDate(2, 0, 0)) {
		t.Errorf("one hold released, and locked %+v", l)
	}
	b.ok("release", second, "--name", "audit")
	if l := b.lock(second); l.Until.Before(before.AddDate(2, 0, 0)) {
		t.Errorf("a release shortened the lock: %+v", l)
	}

	// A policy that keeps it longer lengthens the lock, and a legal hold that is missing
	// is set, where prune carries the plan out.
	b.configure(locked + "retention:\n  days: 90d\n")
	if out := b.ok("prune", "--only", "backups"); !strings.Contains(out, "to be locked until") {
		t.Errorf("prune says:\n%s", out)
	}
	if again := b.lock(first); again.Until != l.Until {
		t.Errorf("the plan changed the lock: %+v", again)
	}
	if out := b.ok("prune", "--only", "backups", "--yes"); !strings.Contains(out, "; locked until") || strings.Contains(out, "to be locked") {
		t.Errorf("prune says:\n%s", out)
	}
	if l := b.lock(first); l.Until.Sub(before) < 90*24*time.Hour-time.Minute {
		t.Errorf("kept for 90 days, and locked %+v", l)
	}
	if out := b.ok("prune", "--only", "backups"); strings.Contains(out, "to be locked") {
		t.Errorf("prune says:\n%s", out)
	}

	// Not asked is not the same as not locked.
	b.configure("log:\n  level: info\n")
	if l := b.lock(first); l.Asked {
		t.Errorf("%+v", l)
	}
	if out := b.ok("show", first); !strings.Contains(out, "not asked: object_lock is off") {
		t.Errorf("show says:\n%s", out)
	}
	if out := b.ok("check"); place.versions && (!strings.Contains(out, "keeps versions: what is deleted is only hidden") || !strings.Contains(out, "warn")) {
		t.Errorf("check says:\n%s", out)
	}
}

// TestObjectLockRefused: what is configured and can't be is refused, at check and before a
// backup, and nothing is written.
func TestObjectLockRefused(t *testing.T) {
	for name, start := range lockingPlaces() {
		t.Run(name, func(t *testing.T) { testObjectLockRefused(t, start(t)) })
	}
}

func testObjectLockRefused(t *testing.T, place lockingPlace) {
	b := newBench(t, patients("10")...)
	b.env = append(b.env, "PGMEDIC_OBJECT_LOCK=governance")
	b.env = append(b.env, place.env...)
	base := b.env
	for name, c := range map[string]struct{ store, config, words string }{
		"no lock":      {place.plain + "/db", "log:\n  level: info\n", place.cannot},
		"folder":       {b.store, "log:\n  level: info\n", "can't lock objects"},
		"no retention": {place.store + "/db", "retention:\n  days: 0\n", "keeps them without end"},
	} {
		t.Run(name, func(t *testing.T) {
			b.configure(c.config)
			b.env = slices.Concat(base, []string{"PGMEDIC_STORE=" + c.store})
			if r := b.run("backup"); r.code != 2 || !strings.Contains(r.stderr, c.words) {
				t.Errorf("backup: exit code %d, %s", r.code, r.stderr)
			}
			if name == "folder" {
				return // which is not there, for check to try
			}
			if r := b.run("check"); r.code != 2 || !strings.Contains(r.stdout, c.words) {
				t.Errorf("check: exit code %d, %s%s", r.code, r.stdout, r.stderr)
			}
		})
	}
	if got := append(place.objects(place.plain), place.objects(place.store)...); len(got) != 0 {
		t.Errorf("written: %q", got)
	}
	// A copy's own store locks, and the first one does not.
	b.configure("retention:\n  days: 7d\ncopies:\n  - name: far\n    store: " + place.store + "/db\n    object_lock: governance\n    " + place.access + "\n")
	b.env = slices.Concat(base, []string{"PGMEDIC_STORE=" + b.store, "PGMEDIC_OBJECT_LOCK=off"})
	id := strings.TrimSpace(b.ok("backup", "-q"))
	locked := 0
	for _, name := range place.objects(place.store) {
		if strings.Contains(name, id) && place.destroy(name) != nil {
			locked++
		}
	}
	if locked < 5 {
		t.Errorf("%d objects of the copy are locked", locked)
	}
}
