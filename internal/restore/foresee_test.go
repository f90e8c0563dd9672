package restore_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestForeseeAsReplace: what stops a swap before it has made anything is what its
// dry run says, in the same words.
func TestForeseeAsReplace(t *testing.T) {
	admin := server.DSN("postgres")
	fixture.Exec(t, admin, "CREATE ROLE foresee_powerless LOGIN", "CREATE ROLE foresee_maker LOGIN CREATEDB")
	t.Cleanup(func() { fixture.Exec(t, admin, "DROP ROLE foresee_powerless", "DROP ROLE foresee_maker") })
	as := func(o *restore.SwapOptions, role string) {
		o.Target = o.Target.With("options", "-c role="+role)
	}
	for name, tt := range testkit.Some(t, 2, map[string]struct {
		change func(t *testing.T, o *restore.SwapOptions)
		kind   pgmedic.Kind
		words  string
	}{
		"a full disk": {func(_ *testing.T, o *restore.SwapOptions) {
			o.FreeBytes = func(context.Context, string) (int64, error) { return 1, nil }
		}, pgmedic.KindFailed, "MB free in"},
		"a template": {func(t *testing.T, o *restore.SwapOptions) {
			fixture.Exec(t, admin, "ALTER DATABASE "+o.Live+" IS_TEMPLATE true")
			t.Cleanup(func() { fixture.Exec(t, admin, "ALTER DATABASE "+o.Live+" IS_TEMPLATE false") })
		}, pgmedic.KindConflict, "is a template"},
		"a leftover that is used": {func(t *testing.T, o *restore.SwapOptions) {
			left := leftReady(t, o.Live, *o, "eeeeeeee", pgmedic.Story{Pgmedic: pgmedic.StoryReady, Since: time.Now()})
			fixture.Connect(t, server.DSN(left)) // somebody
		}, pgmedic.KindConflict, "would be dropped"},
		"a role that makes no databases": {func(_ *testing.T, o *restore.SwapOptions) { as(o, "foresee_powerless") }, pgmedic.KindUnreachable, "neither make nor rename"},
		"a role that is not the owner's": {func(_ *testing.T, o *restore.SwapOptions) { as(o, "foresee_maker") }, pgmedic.KindUnreachable, "is not a member of"},
	}) {
		t.Run(name, func(t *testing.T) {
			live, o := liveClinic(t)
			o.Live = live
			tt.change(t, &o)
			before := fixture.Databases(t, server)
			p, err := restore.Foresee(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			fixture.WantKind(t, p.Obstacle(), tt.kind, tt.words)
			_, err = restore.Replace(t.Context(), o)
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
