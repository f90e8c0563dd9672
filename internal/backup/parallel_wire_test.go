package backup_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestParallelOverBadWire puts toxiproxy between the backup, pg_dump included,
// and the server.
func TestParallelOverBadWire(t *testing.T) {
	dsn := filled(t, server)
	fixture.Exec(t, dsn, makeLedger)
	for _, tt := range testkit.SomeOf(t, 3, []struct {
		name  string
		fails bool
		kind  pgmedic.Kind
		words string
		// toxic is on the wire from the beginning, befalls comes midway.
		toxic   string
		befalls func(t *testing.T, p *toxiproxy.Proxy)
	}{
		{name: "slow", toxic: `{"name": "slow", "type": "bandwidth", "stream": "downstream", "attributes": {"rate": 6000}}`},
		{name: "far away", toxic: `{"name": "far", "type": "latency", "stream": "downstream", "attributes": {"latency": 20, "jitter": 10}}`},
		{name: "in pieces", toxic: `{"name": "sliced", "type": "slicer", "stream": "downstream", "attributes": {"average_size": 700, "size_variation": 500}}`},
		{name: "cut", fails: true, kind: pgmedic.KindUnreachable, befalls: func(_ *testing.T, p *toxiproxy.Proxy) { p.Stop() }},
		{name: "reset", fails: true, kind: pgmedic.KindUnreachable, befalls: func(t *testing.T, p *toxiproxy.Proxy) {
			fixture.Poison(t, p, `{"name": "reset", "type": "reset_peer", "stream": "downstream", "attributes": {"timeout": 0}}`)
		}},
		{name: "silent", fails: true, kind: pgmedic.KindFailed, words: "maximum duration", befalls: func(t *testing.T, p *toxiproxy.Proxy) {
			fixture.Poison(t, p, `{"name": "silent", "type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`)
		}},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			proxy, port := fixture.Toxiproxy(t, address(server))
			d := newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader {
				if tt.befalls == nil {
					return nil
				}
				return fixture.At(r, 64<<10, func() { tt.befalls(t, proxy) })
			})
			d.o.Target = d.o.Target.With("host", "127.0.0.1").With("port", port).With("password", server.Password())
			d.o.ServerName = "clinic"
			if tt.words != "" {
				d.o.MaxDuration = 5 * time.Second
			}
			if tt.toxic != "" {
				fixture.Poison(t, proxy, tt.toxic)
			}
			b, err := backup.Take(t.Context(), d.o)
			if tt.fails {
				d.wantFailed(t, b, err, tt.kind, tt.words)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			const sum = "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients AS p"
			if got, want := fixture.Query[string](t, restored(t, server, d.o.Catalog, b), sum), fixture.Query[string](t, dsn, sum); !slices.Equal(got, want) {
				t.Error("the copy has other rows")
			}
		})
	}
}

// TestParallelTellsWhoWaits has a migration wait for the backup: it is told of
// once, while it waits, and in the load; when the backup has ended it goes on.
func TestParallelTellsWhoWaits(t *testing.T) {
	dsn := filled(t, server)
	migration := testkit.Connect(t, dsn)
	if _, err := migration.Exec(t.Context(), "SET application_name = 'migration \x1b[31m'"); err != nil {
		t.Fatal(err)
	}
	migrated := make(chan error, 1)
	var d *badDay
	d = newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, 64<<10, func() {
			// The dumps have their locks, and the list of objects has been read, before any of
			// these could queue behind the migration.
			testkit.Eventually(t, time.Minute, "pg_dump's definitions and the list of objects are stored", func() bool {
				definitions, objects := false, false
				for o, err := range d.o.Catalog.Store().List(t.Context(), "") {
					definitions = definitions || err == nil && strings.HasSuffix(o.Key, "/schema.dump")
					objects = objects || err == nil && strings.Contains(o.Key, "/inventory.json")
				}
				return definitions && objects
			})
			go func() {
				_, err := migration.Exec(context.Background(), "ALTER TABLE patients ADD more text")
				migrated <- err
			}()
			testkit.Eventually(t, time.Minute, "the waiting migration is told of", func() bool { return strings.Contains(d.said.String(), "a session waits") })
			// Another look finds it still there, and says nothing.
			seen := len(fixture.Query[int](t, dsn, "SELECT 1 FROM pg_locks WHERE NOT granted"))
			if seen != 1 {
				t.Errorf("%d sessions wait", seen)
			}
		})
	})
	b, err := backup.Take(t.Context(), d.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Errorf("the migration, once the backup has let go: %v", err)
	}
	said := d.said.String()
	for _, words := range []string{"application=\"migration ", `user=` + server.Superuser(), `table="\"public\".\"patients\""`, "lock=AccessExclusiveLock", "waited="} {
		if !strings.Contains(said, words) {
			t.Errorf("the warning does not hold %s:\n%s", words, said)
		}
	}
	if n := strings.Count(said, "a session waits"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if strings.Contains(said, "\x1b") {
		t.Error("a name drives the terminal")
	}
	if l := b.Load; l == nil || l.BlockedSessions != 1 || l.LongestWaitSeconds < 1 || l.SnapshotSeconds < l.LongestWaitSeconds {
		t.Errorf("load: %+v", l)
	}
}

// TestLoad compares the load that is stated with what the server saw.
func TestLoad(t *testing.T) {
	dsn := filled(t, server)
	for n := range 4 {
		fixture.Exec(t, dsn, "CREATE TABLE more"+string(rune('a'+n))+" AS TABLE patients")
	}
	for name, method := range fixture.Methods(t, 3) {
		t.Run(name, func(t *testing.T) {
			o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
			o.Method, o.Seal = method, seal.Options{Compression: seal.CompressionNone}
			var events []pgmedic.Event
			o.Progress = func(e pgmedic.Event) { events = append(events, e) }
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			l := b.Load
			if l == nil {
				t.Fatal("no load is stated")
			}
			if most := backup.Connections(method); l.Connections > most || l.Connections < 4 {
				t.Errorf("%d connections, said to be at most %d", l.Connections, most)
			}
			size := fixture.Query[int64](t, dsn, "SELECT sum(length(notes)) FROM (SELECT notes FROM patients UNION ALL SELECT notes FROM morea) AS p")[0]
			if l.ReadBytes < size*5/2 || l.ReadBytes > size*5/2*12/10 {
				t.Errorf("%d bytes read, of rows of %d", l.ReadBytes, size*5/2)
			}
			if l.SnapshotSeconds <= 0 || l.BlockedSessions != 0 {
				t.Errorf("load: %+v", l)
			}
			step, last := "", int64(0)
			for _, e := range events {
				if e.Step != step {
					step, last = e.Step, 0
				}
				if e.DoneBytes < last && !e.Finished || e.TotalBytes > 0 && e.DoneBytes > e.TotalBytes {
					t.Errorf("%d bytes after %d: %+v", e.DoneBytes, last, e)
				}
				last = e.DoneBytes
			}
		})
	}
}

// TestConnectionsAtMost holds a parallel backup where everything is open at once,
// and counts its sessions.
func TestConnectionsAtMost(t *testing.T) {
	dsn := filled(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE more AS TABLE patients", manyFunctions)
	const method = 2
	var counted int
	d := newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, 64<<10, func() {
			testkit.Eventually(t, time.Minute, "all sessions are open", func() bool {
				counted = max(counted, fixture.Query[int](t, server.DSN("postgres"), `SELECT count(*) FROM pg_stat_activity AS a
					WHERE application_name = 'pgmedic' AND (datname = $1 OR EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = a.pid))`, fixture.Target(t, dsn).Database())[0])
				return counted >= backup.Connections(backup.Parallel{Jobs: method}) || fixture.ChildRunning(t, "pg_dump") == ""
			})
		})
	})
	b, err := backup.Take(t.Context(), d.o)
	if err != nil {
		t.Fatal(err)
	}
	if most := backup.Connections(backup.Parallel{Jobs: method}); counted > most || b.Load.Connections > most || b.Load.Connections < counted {
		t.Errorf("%d sessions were seen, %d are stated, at most %d are announced", counted, b.Load.Connections, most)
	}
}
