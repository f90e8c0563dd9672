package physical_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// meanwhile is a store that has something done when the first pack of a backup is stored: the
// backup has begun by then, and has not ended.
type meanwhile struct {
	store.Store
	do func()
}

func (m *meanwhile) Put(ctx context.Context, key string, content io.Reader) (store.Object, error) {
	if do := m.do; do != nil && strings.HasSuffix(key, "/pack-0001") {
		m.do = nil
		do()
	}
	return m.Store.Put(ctx, key, content)
}

// during has statements run while the next backup is taken.
func (b *bench) during(statements ...string) {
	s := &meanwhile{Store: b.store, do: func() { b.run(statements...) }}
	b.o.Catalog = catalog.New(s)
}

// TestTablespacesMeanwhile: while a backup is taken, a tablespace is made, another is dropped, and
// tables move from one to another. The restored cluster has them as they were in the end. A
// database that moves is refused, because WAL has only that its folder was copied.
func TestTablespacesMeanwhile(t *testing.T) {
	testkit.OnlyAll(t, "two or three backups for each version and reader")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major)+" by SQL", func(t *testing.T) {
			b := newSQLBench(t, scratch.Options{Major: major, Settings: map[string]string{"full_page_writes": "on"}})
			b.grant()
			tablespacesMeanwhile(t, b)
		})
		t.Run(strconv.Itoa(major)+" streamed", func(t *testing.T) {
			tablespacesMeanwhile(t, newBench(t, scratch.Options{Major: major, Settings: map[string]string{"full_page_writes": "on"}}))
		})
	}
}

const spread = `SELECT string_agg(x, ' ') FROM (
SELECT 'aside' || count(*) || ' ' || sum(hashtext(i || pad)) AS x FROM public.aside UNION ALL
SELECT 'stays' || count(*) || ' ' || sum(hashtext(i || pad)) FROM public.stays UNION ALL
SELECT 'newest' || count(*) || ' ' || sum(i) FROM public.newest UNION ALL
SELECT c.relname || ' in ' || coalesce(s.spcname, 'the default') FROM pg_class AS c LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace
WHERE c.relname IN ('aside', 'stays', 'newest') UNION ALL
SELECT 'and ' || string_agg(spcname, ' ' ORDER BY spcname) FROM pg_tablespace) AS all_of_it`

func tablespacesMeanwhile(t *testing.T, b *bench) {
	b.space("one")
	b.space("two")
	b.run("CREATE TABLE public.aside TABLESPACE one AS SELECT i, repeat('a', 200) AS pad FROM generate_series(1, 5000) AS i",
		"CREATE TABLE public.stays TABLESPACE two AS SELECT i, repeat('s', 200) AS pad FROM generate_series(1, 5000) AS i",
		"CREATE TABLE public.bulk AS SELECT md5(i::text) || md5((-i)::text) AS pad FROM generate_series(1, 250000) AS i", "CREATE DATABASE wandering")
	if b.o.BySQL {
		b.settle()
		b.take()
		b.run("UPDATE public.bulk SET pad = pad || '+'") // else nothing is to be read
	}
	space := filepath.Join(filepath.Dir(b.server.DataDir()), "newer")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	b.owned(space)
	b.during("CREATE TABLESPACE newer LOCATION '"+space+"'", "CREATE TABLE public.newest TABLESPACE newer AS SELECT i FROM generate_series(1, 1000) AS i",
		"ALTER TABLE public.aside SET TABLESPACE newer", "UPDATE public.aside SET pad = 'moved' WHERE i % 3 = 0",
		"ALTER TABLE public.stays SET TABLESPACE pg_default", "DELETE FROM public.stays WHERE i % 5 = 0", "DROP TABLESPACE two")
	m := b.take()
	source := postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
	want := ask(t, source, spread)
	if !strings.Contains(want, "aside in newer") || !strings.Contains(want, "and newer one") {
		t.Fatalf("the source has %s", want)
	}
	if b.o.BySQL != (m.Physical.Kind == pgmedic.PhysicalIncremental) || len(m.Physical.Tablespaces) != 2 {
		t.Errorf("it is %s, with tablespaces %+v\n%s", m.Physical.Kind, m.Physical.Tablespaces, b.log.String())
	}
	b.during("ALTER DATABASE wandering SET TABLESPACE one")
	moved, err := physical.Take(t.Context(), b.o)
	if pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(err.Error(), `"wandering"`) || pgmedic.HintOf(err) == "" {
		t.Errorf("a database that was moved: %v, %v", moved, err)
	}
	if n := len(b.all()); n != 1 && !b.o.BySQL || n != 2 && b.o.BySQL {
		t.Errorf("%d backups are listed", n)
	}
	// The restored server makes the new tablespace at its old path, which must not be the living one's.
	b.server.Halt(t.Context())
	if err := os.Rename(space, space+"-of-the-source"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	b.owned(space)
	if got := ask(t, b.restored(m), spread); got != want {
		t.Errorf("the restored cluster has\n%s, and the source\n%s", got, want)
	}
}
