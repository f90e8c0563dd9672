package monitor_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// storyOf is the comment that pgmedic writes, as an SQL literal.
func storyOf(t *testing.T, s pgmedic.Story) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return sqltext.QuoteLiteral(string(text))
}

func testDatabasesThatWereSetAsideAreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	const name, renamed = `shop__before "1"`, "taken_over"
	now, err := databases.ServerTime(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{name, renamed} {
		exec(t, conn, "CREATE DATABASE "+sqltext.QuoteIdent(n)+" TEMPLATE template0")
		t.Cleanup(func() {
			if _, err := conn.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE IF EXISTS "+sqltext.QuoteIdent(n)); err != nil {
				t.Error(err)
			}
		})
	}
	// Somebody renamed that one since, and it is theirs.
	exec(t, conn, "COMMENT ON DATABASE "+renamed+" IS "+
		storyOf(t, pgmedic.Story{Pgmedic: pgmedic.StoryKept, Name: "old", Of: "shop", By: "restore", Since: now.Add(-time.Hour * 1000)}))
	tell := func(state string, age time.Duration) []pgmedic.Finding {
		exec(t, conn, "COMMENT ON DATABASE "+sqltext.QuoteIdent(name)+" IS "+
			storyOf(t, pgmedic.Story{Pgmedic: state, Name: name, Of: "shop", By: "restore", Since: now.Add(-age)}))
		r := look(t, conn, collect.Options{})
		i := slices.IndexFunc(r.Size.Kept, func(k reading.KeptDatabase) bool { return k.Name == name })
		if i < 0 || slices.ContainsFunc(r.Size.Kept, func(k reading.KeptDatabase) bool { return k.Name == renamed }) {
			t.Fatalf("kept: %+v", r.Size.Kept)
		}
		if k := r.Size.Kept[i]; k.Bytes == nil || *k.Bytes < 1<<20 || k.Of != "shop" || k.State != state || k.AgeSeconds < age.Seconds() {
			t.Errorf("%+v", k)
		}
		return judge.Analyse(r, nil, reading.DefaultThresholds())
	}
	const id, object = "database-kept", "database " + name
	week := 7 * 24 * time.Hour
	mustNotFind(t, tell(pgmedic.StoryKept, week-time.Hour), id, object)
	if f := mustFind(t, tell(pgmedic.StoryKept, week), id, object); f.Fix != "pgmedic prune" || f.Severity != pgmedic.SeverityWarn {
		t.Errorf("%+v", f)
	}
	mustNotFind(t, tell(pgmedic.StoryLoading, time.Hour), id, object)
	mustFind(t, tell(pgmedic.StoryReady, 25*time.Hour), id, object)
	// A role that may not measure it, nor connect, is told of it all the same.
	exec(t, conn, "REVOKE CONNECT ON DATABASE "+sqltext.QuoteIdent(name)+" FROM public", "CREATE ROLE onlooker", "SET ROLE onlooker")
	r := look(t, conn, collect.Options{})
	i := slices.IndexFunc(r.Size.Kept, func(k reading.KeptDatabase) bool { return k.Name == name })
	if i < 0 || r.Size.Kept[i].Bytes != nil {
		t.Errorf("kept: %+v", r.Size.Kept)
	}
	if !slices.ContainsFunc(r.Skipped, func(s reading.Skipped) bool {
		return s.Section == reading.SectionSize && s.Query == "size of database "+sqltext.QuoteIdent(name)
	}) {
		t.Errorf("nothing says that its size is not known: %+v", r.Skipped)
	}
	exec(t, conn, "RESET ROLE", "DROP ROLE onlooker", "DROP DATABASE "+sqltext.QuoteIdent(name))
	mustNotFind(t, judgeNow(t, conn), id, object)
}

func testAForgottenRescueIsFoundAndDropped(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	now, err := databases.ServerTime(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	const backup = "20261101T020000Z-abcdef"
	schema := postgres.RescueSchema(backup)
	exec(t, conn, "CREATE SCHEMA "+schema, "CREATE TABLE "+schema+".claims (id int PRIMARY KEY)",
		"CREATE SCHEMA pgmedic_rescue_mine") // no story, no rescue
	// Nor is what tells the story of another.
	const others = "pgmedic_rescue_20261102t020000z_abcdef"
	exec(t, conn, "CREATE SCHEMA "+others, "COMMENT ON SCHEMA "+others+" IS "+storyOf(t, pgmedic.Story{Pgmedic: "rescued", By: databases.ByRescue, Backup: backup, Since: now}))
	tell := func(age time.Duration) []pgmedic.Finding {
		exec(t, conn, "COMMENT ON SCHEMA "+schema+" IS "+storyOf(t, pgmedic.Story{Pgmedic: "rescued", Of: "shop", By: databases.ByRescue, Backup: backup, Since: now.Add(-age)}))
		r := look(t, conn, collect.Options{})
		if s := r.Size.Rescued; len(s) != 1 || s[0].Name != schema || s[0].Backup != backup || s[0].Tables != 1 {
			t.Fatalf("rescued: %+v", s)
		}
		return judge.Analyse(r, nil, reading.DefaultThresholds())
	}
	const id = "rescue-left"
	mustNotFind(t, tell(6*24*time.Hour), id, "schema "+schema)
	if fix := mustFind(t, tell(8*24*time.Hour), id, "schema "+schema).Fix; fix != "pgmedic prune --rescued "+schema {
		t.Errorf("the fix is %s", fix)
	}
	exec(t, conn, "DROP SCHEMA "+schema+" CASCADE")
	mustNotFind(t, judgeNow(t, conn), id, "schema "+schema)
}

func testDisksOfTablespacesAreListed(t *testing.T, dsn string, server *scratch.Server) {
	conn := connect(t, dsn)
	listed := func() bool {
		return slices.ContainsFunc(look(t, conn, collect.Options{}).Skipped, func(s reading.Skipped) bool {
			return s.Section == reading.SectionSize && s.Query == `the disk of tablespace "else where"`
		})
	}
	if listed() {
		t.Error("it is listed before it is there")
	}
	dir, err := server.TablespaceDir("else_where")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `CREATE TABLESPACE "else where" LOCATION `+sqltext.QuoteLiteral(dir))
	if !listed() {
		t.Error("nothing says that its disk is not measured")
	}
	exec(t, conn, `DROP TABLESPACE "else where"`)
}
