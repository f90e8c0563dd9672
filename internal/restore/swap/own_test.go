package swap_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestNotOurs gives databases that somebody uses the comments of what restores
// leave behind: nothing is dropped, made live or left out of a backup for that.
func TestNotOurs(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Run("renamed", func(t *testing.T) {
		live, o := liveClinic(t)
		left := leftReady(t, live, o, "eeeeeeee", pgmedic.Story{Pgmedic: pgmedic.StoryReady, Since: time.Now()})
		theirs := fixture.Name(t, server)
		admin := testkit.Connect(t, server.DSN("postgres"))
		fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+left+" RENAME TO "+theirs)
		if _, err := swap.Replace(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if !fixture.Exists(t, server, theirs) {
			t.Error("a database that somebody renamed is gone")
		}
		if all, err := databases.List(t.Context(), admin); err != nil || !slices.Contains(all, theirs) {
			t.Errorf("it is not among %q: %v", all, err)
		}
	})
	t.Run("in use", func(t *testing.T) {
		live, o := liveClinic(t)
		left := leftReady(t, live, o, "ffffffff", pgmedic.Story{Pgmedic: pgmedic.StoryLoading, Since: time.Now()})
		t.Cleanup(func() { fixture.DropAll(t, server, left) })
		somebody := testkit.Connect(t, server.DSN(left)+" application_name=psql")
		_, err := swap.Replace(t.Context(), o)
		fixture.WantKind(t, err, pgmedic.KindConflict, left, "it is in use (sessions: 1)")
		if !fixture.Exists(t, server, left) || somebody.Ping(t.Context()) != nil {
			t.Error("it is gone, or its session")
		}
	})
	t.Run("a story that came along", func(t *testing.T) {
		live, o := liveClinic(t)
		admin := testkit.Connect(t, server.DSN("postgres"))
		if err := databases.SetComment(t.Context(), admin, live, `{"pgmedic":"kept","of":"`+live+`_x","by":"restore","comment":"its own"}`); err != nil {
			t.Fatal(err)
		}
		b := fixture.TakeBackup(t, server.DSN(live), o.Catalog)
		if b.Database.Comment != "its own" {
			t.Errorf("the backup has the comment %q", b.Database.Comment)
		}
		_, err := swap.Rollback(t.Context(), swap.Options{Options: o.Options, Live: live + "_x"})
		fixture.WantKind(t, err, pgmedic.KindConflict, "opened")
	})
	t.Run("without rows", func(t *testing.T) {
		live, o := liveClinic(t)
		o.Without = dumpsql.Without{Rows: true}
		_, err := swap.Replace(t.Context(), o)
		fixture.WantKind(t, err, pgmedic.KindUsage, "can't take a live database's place")
		o.Live = live
		p, err := swap.Foresee(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		fixture.WantKind(t, p.Obstacle(), pgmedic.KindUsage, "can't take a live database's place")
		wantUntouched(t, live)
	})
}
