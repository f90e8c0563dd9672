package backup_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// wantFailed fails the test unless a backup failed as it should: with an error
// of the kind and words, no row in it, and nothing left but orphans.
func wantFailed(t *testing.T, o backup.Options, b *pgmedic.Backup, err error, kind pgmedic.Kind, words ...string) {
	t.Helper()
	if b != nil {
		t.Error("a backup that failed returns a manifest")
	}
	fixture.WantKind(t, err, kind, words...)
	for _, text := range []string{err.Error(), pgmedic.HintOf(err)} {
		if strings.Contains(text, patientData) || strings.Contains(text, "Patient") {
			t.Errorf("the message holds a row: %s", text)
		}
	}
	fixture.WantNoBackup(t, o.Catalog)
}

// signal signals the pg_dump that is running.
func signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	pid, err := strconv.Atoi(fixture.ChildRunning(t, "pg_dump"))
	if err != nil {
		t.Fatal("no pg_dump is running")
	}
	if err := syscall.Kill(pid, s); err != nil {
		t.Error(err)
	}
}

// TestDiesMidway ends a dump of which 64 KiB are stored, in every way.
func TestDiesMidway(t *testing.T) {
	dsn := filled(t, server)
	database := fixture.Target(t, dsn).Database()
	proxy, port := fixture.NewProxy(t, strings.TrimPrefix(strings.SplitAfter(server.URL("x"), "@")[1], "@")[:len("127.0.0.1:")+len(strconv.Itoa(server.Port()))])
	tests := []struct {
		name   string
		kind   pgmedic.Kind
		words  string
		broken func(t *testing.T, ctx context.Context, cancel context.CancelFunc)
		set    func(o *backup.Options)
	}{
		{name: "pg_dump killed", kind: pgmedic.KindFailed, words: "pg_dump: ended with signal: killed",
			broken: func(t *testing.T, _ context.Context, _ context.CancelFunc) { signal(t, syscall.SIGKILL) }},
		{name: "pg_dump terminated", kind: pgmedic.KindFailed, words: "pg_dump",
			broken: func(t *testing.T, _ context.Context, _ context.CancelFunc) { signal(t, syscall.SIGTERM) }},
		{name: "backend terminated", kind: pgmedic.KindUnreachable, words: "pg_dump",
			broken: func(t *testing.T, _ context.Context, _ context.CancelFunc) {
				fixture.Exec(t, server.DSN("postgres"), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %' AND datname = '"+database+"'")
			}},
		{name: "connection cut", kind: pgmedic.KindUnreachable, words: "connection", // pg_dump's, or another that was cut
			set: func(o *backup.Options) {
				o.Target = o.Target.With("host", "127.0.0.1").With("port", port).With("password", server.Password())
			},
			broken: func(*testing.T, context.Context, context.CancelFunc) { proxy.Cut() }},
		{name: "cancelled", kind: pgmedic.KindInterrupted, words: "canceled",
			broken: func(_ *testing.T, _ context.Context, cancel context.CancelFunc) { cancel() }},
		{name: "took too long", kind: pgmedic.KindFailed, words: "took longer than its maximum duration of 1.5 s",
			set:    func(o *backup.Options) { o.MaxDuration = 1500 * time.Millisecond },
			broken: func(_ *testing.T, ctx context.Context, _ context.CancelFunc) { <-ctx.Done() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check := fixture.NothingLeft(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := stored(t, dsn, func(putCtx context.Context, r io.Reader) io.Reader {
				return fixture.At(r, 64<<10, func() { tt.broken(t, putCtx, cancel) })
			})
			if tt.set != nil {
				tt.set(&o)
			}
			b, err := backup.Take(ctx, o)
			wantFailed(t, o, b, err, tt.kind, tt.words)
			testkit.Eventually(t, time.Minute, "no session is left", func() bool {
				return fixture.Query[int](t, server.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", database)[0] == 0
			})
			check()
		})
	}
}

// TestParallelTakesTooLong ends a parallel backup while a worker copies.
func TestParallelTakesTooLong(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	dsn := filled(t, server)
	database := fixture.Target(t, dsn).Database()
	check := fixture.NothingLeft(t)
	copying := false
	o := fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{
		Store: fixture.NewCatalog(t).Store(),
		OnPut: func(ctx context.Context, key string, r io.Reader) io.Reader {
			if !strings.HasSuffix(key, "/pack-0001") {
				return nil
			}
			return fixture.At(r, 64<<10, func() {
				copying = true
				<-ctx.Done()
			})
		},
	}))
	o.Method, o.Seal, o.MaxDuration = backup.Parallel{Jobs: 1}, seal.Options{Compression: seal.CompressionNone}, 15*time.Second
	b, err := backup.Take(t.Context(), o)
	wantFailed(t, o, b, err, pgmedic.KindFailed, "took longer than its maximum duration of 15 s")
	if !copying {
		t.Error("it ended before anything was copied")
	}
	testkit.Eventually(t, time.Minute, "no session is left", func() bool {
		return fixture.Query[int](t, server.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", database)[0] == 0
	})
	check()
}

func TestServerStops(t *testing.T) {
	own := scratchtest.New(t, scratch.Options{})
	fixture.Exec(t, own.DSN("postgres"), "CREATE DATABASE clinic")
	dsn := own.DSN("clinic")
	fill(t, dsn)
	// What is read beside the dump would fail as well, and might be heard first.
	var beside sync.WaitGroup
	beside.Add(2)
	o := fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{
		Store: fixture.NewCatalog(t).Store(),
		OnPut: func(_ context.Context, key string, r io.Reader) io.Reader {
			if strings.Contains(key, "/inventory") || strings.Contains(key, "/globals") {
				return &atEnd{r, sync.OnceFunc(beside.Done)}
			}
			if !strings.HasSuffix(key, "/dump.sql") {
				return nil
			}
			return fixture.At(r, 64<<10, func() {
				beside.Wait()
				if err := syscall.Kill(own.PID(), syscall.SIGQUIT); err != nil {
					t.Error(err)
				}
				<-own.Done()
			})
		},
	}))
	o.Seal = seal.Options{Compression: seal.CompressionNone}
	b, err := backup.Take(t.Context(), o)
	wantFailed(t, o, b, err, pgmedic.KindUnreachable, "pg_dump")
}

// atEnd does something when all of a reader has been read.
type atEnd struct {
	io.Reader
	do func()
}

func (r *atEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.do()
	}
	return n, err
}

// TestCancelledAtEachStep interrupts a backup at the beginning of each step and
// right before its commit.
func TestCancelledAtEachStep(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	for _, step := range []string{"snapshot", "inventory", "globals", "dump", "commit"} {
		t.Run(step, func(t *testing.T) {
			check := fixture.NothingLeft(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{Store: c.Store(),
				OnPut: func(_ context.Context, key string, _ io.Reader) io.Reader {
					if strings.HasSuffix(key, "/manifest.json.sha256") && step == "commit" {
						cancel()
					}
					return nil
				}}))
			o.Progress = func(e pgmedic.Event) {
				if e.Step == step && !e.Finished {
					cancel()
				}
			}
			b, err := backup.Take(ctx, o)
			wantFailed(t, o, b, err, pgmedic.KindInterrupted)
			check()
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
	b, err := backup.Take(ctx, o)
	wantFailed(t, o, b, err, pgmedic.KindInterrupted)
}

// TestStoreFails has the store fail at each object in turn.
func TestStoreFails(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE patients AS SELECT '"+patientData+"' || n AS name FROM generate_series(1, 1000) AS n")
	for _, object := range []string{"inventory.json.gz", "globals.sql.gz", "dump.sql.gz", "manifest.json.sha256", "manifest.json"} {
		t.Run(object, func(t *testing.T) {
			check := fixture.NothingLeft(t)
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{Store: c.Store(),
				OnPut: func(_ context.Context, key string, r io.Reader) io.Reader {
					if strings.HasSuffix(key, "/"+object) {
						return fixture.FailAfter(r, 20, pgmedic.Errorf(pgmedic.KindUnreachable, "", "put: %w", fixture.ErrInjected))
					}
					return nil
				}}))
			b, err := backup.Take(t.Context(), o)
			wantFailed(t, o, b, err, pgmedic.KindUnreachable, "injected")
			if !errors.Is(err, fixture.ErrInjected) {
				t.Errorf("the cause is not in the error: %v", err)
			}
			check()
		})
	}
}

// TestStoreFillsUp runs into the limit of file sizes, as into a full disk.
func TestStoreFillsUp(t *testing.T) {
	dsn := filled(t, server)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	o := stored(t, dsn, func(_ context.Context, r io.Reader) io.Reader { return r })
	b, err := backup.Take(t.Context(), o)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	wantFailed(t, o, b, err, pgmedic.KindFailed, "file too large")
	if pgmedic.HintOf(err) == "" {
		t.Error("no hint says what to do about it")
	}
}

// TestStoreLies has an object shrink before the commit.
func TestStoreLies(t *testing.T) {
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, scratchtest.Database(t, server), catalog.New(shrinking{c.Store()}))
	b, err := backup.Take(t.Context(), o)
	wantFailed(t, o, b, err, pgmedic.KindIntegrity, "dump.sql.gz")
}

type shrinking struct{ store.Store }

func (s shrinking) Stat(ctx context.Context, key string) (store.Object, error) {
	o, err := s.Store.Stat(ctx, key)
	if strings.HasSuffix(key, "dump.sql.gz") {
		o.SizeBytes--
	}
	return o, err
}
