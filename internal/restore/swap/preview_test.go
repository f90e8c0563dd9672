package swap_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestForeseeAsReplace: what stops a swap before it has made anything is what its
// dry run says, in the same words.
func TestForeseeAsReplace(t *testing.T) {
	admin := server.DSN("postgres")
	fixture.Exec(t, admin, "CREATE ROLE foresee_powerless LOGIN", "CREATE ROLE foresee_maker LOGIN CREATEDB")
	t.Cleanup(func() { fixture.Exec(t, admin, "DROP ROLE foresee_powerless", "DROP ROLE foresee_maker") })
	as := func(o *swap.Options, role string) {
		o.Target = o.Target.With("options", "-c role="+role)
	}
	for name, tt := range testkit.Some(t, 2, map[string]struct {
		change func(t *testing.T, o *swap.Options)
		kind   pgmedic.Kind
		words  string
	}{
		"a full disk": {func(_ *testing.T, o *swap.Options) {
			o.FreeBytes = func(context.Context, string) (int64, error) { return 1, nil }
		}, pgmedic.KindFailed, "has 1 byte free in"},
		"a template": {func(t *testing.T, o *swap.Options) {
			fixture.Exec(t, admin, "ALTER DATABASE "+o.Live+" IS_TEMPLATE true")
			t.Cleanup(func() { fixture.Exec(t, admin, "ALTER DATABASE "+o.Live+" IS_TEMPLATE false") })
		}, pgmedic.KindConflict, "is a template"},
		"a leftover that is used": {func(t *testing.T, o *swap.Options) {
			left := leftReady(t, o.Live, *o, "eeeeeeee", pgmedic.Story{Pgmedic: pgmedic.StoryReady, Since: time.Now()})
			testkit.Connect(t, server.DSN(left)) // somebody
		}, pgmedic.KindConflict, "would be dropped"},
		"a role that makes no databases": {func(_ *testing.T, o *swap.Options) { as(o, "foresee_powerless") }, pgmedic.KindUnreachable, "neither make nor rename"},
		"a role that is not the owner's": {func(_ *testing.T, o *swap.Options) { as(o, "foresee_maker") }, pgmedic.KindUnreachable, "is not a member of"},
	}) {
		t.Run(name, func(t *testing.T) {
			live, o := liveClinic(t)
			o.Live = live
			tt.change(t, &o)
			before := fixture.Databases(t, server)
			p, err := swap.Foresee(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			fixture.WantKind(t, p.Obstacle(), tt.kind, tt.words)
			_, err = swap.Replace(t.Context(), o)
			fixture.WantKind(t, err, tt.kind, tt.words)
			if err.Error() != p.Obstacle().Error() {
				t.Errorf("the swap says %q, its dry run %q", err, p.Obstacle())
			}
			if after := fixture.Databases(t, server); !slices.Equal(before, after) {
				t.Errorf("databases before %q, after %q", before, after)
			}
		})
	}
}

// TestForesee makes nothing, and names what stands in the way.
func TestForesee(t *testing.T) {
	dsn, c, b := fixture.Clinic(t, server)
	live := fixture.Target(t, dsn).Database()
	names := fixture.Databases(t, server)
	foresee := func(into, live string, change func(*pgmedic.Backup)) *restore.Preview {
		t.Helper()
		changed := *b
		change(&changed)
		p, err := swap.Foresee(t.Context(), swap.Options{Options: fixture.RestoreOptions(t, server, c, &changed, into), Live: live})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := foresee("new_one", "", func(*pgmedic.Backup) {}); p.Obstacle() != nil || p.FetchBytes == 0 || p.Steps[0] != "create" || p.DataDirectory == "" {
		t.Errorf("into: %+v", p)
	}
	if p := foresee("", live, func(*pgmedic.Backup) {}); p.Obstacle() != nil || !slices.Contains(p.Steps, "swap") {
		t.Errorf("swap: %+v", p)
	}
	fixture.WantKind(t, foresee(live, "", func(*pgmedic.Backup) {}).Obstacle(), pgmedic.KindConflict, "exists already")
	fixture.WantKind(t, foresee("new_one", "", func(b *pgmedic.Backup) {
		b.Database.Roles = []pgmedic.Role{{Name: "nobody here"}}
		b.Database.Tablespaces = []string{"fast"}
	}).Obstacle(), pgmedic.KindNotFound, "nobody here")
	fixture.WantKind(t, foresee("", live, func(b *pgmedic.Backup) { b.Server.SystemIdentifier = "7" }).Obstacle(), pgmedic.KindUsage, "another server")
	fixture.WantKind(t, foresee("", "postgres", func(*pgmedic.Backup) {}).Obstacle(), pgmedic.KindUsage, "connect through")
	fixture.WantKind(t, foresee("", "template1", func(*pgmedic.Backup) {}).Obstacle(), pgmedic.KindUsage, "the server's own")
	same := func(*pgmedic.Backup) {}
	for _, name := range []string{live, "new_one"} {
		lock, err := databases.AcquireRunLock(t.Context(), fixture.Target(t, dsn), "postgres", name)
		if err != nil {
			t.Fatal(err)
		}
		if name == live {
			fixture.WantKind(t, foresee("", live, same).Obstacle(), pgmedic.KindConflict, "another pgmedic run")
		} else {
			fixture.WantKind(t, foresee(name, "", same).Obstacle(), pgmedic.KindConflict, "another pgmedic run")
		}
		lock.Release(t.Context())
	}
	if now := fixture.Databases(t, server); !slices.Equal(now, names) {
		t.Errorf("databases %q, there were %q", now, names)
	}
}
