package swap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

func TestPlanPrune(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	week := 7 * 24 * time.Hour
	kept := databases.Kept{Name: "shop__before_1", Owner: "app", LiveOwner: "app", Story: pgmedic.Story{
		Pgmedic: pgmedic.StoryKept, Name: "shop__before_1", Of: "shop", Since: now.Add(-week - time.Second),
	}}
	change := func(change func(*databases.Kept)) databases.Kept {
		k := kept
		change(&k)
		return k
	}
	for name, tt := range map[string]struct {
		kept   databases.Kept
		drop   bool
		reason string
	}{
		"its time is over": {kept, true, "more than 7 d ago"},
		"at that moment":   {change(func(k *databases.Kept) { k.Story.Since = now.Add(-week) }), true, ""},
		"its time is not over": {change(func(k *databases.Kept) { k.Story.Since = now.Add(-week + time.Second) }), false,
			"until 2026-11-22 12:00:01Z"},
		"of the future":         {change(func(k *databases.Kept) { k.Story.Since = now.Add(time.Hour) }), false, "in the future"},
		"of a clock beside":     {change(func(k *databases.Kept) { k.Story.Since = now.Add(time.Second) }), false, "until"},
		"of another role":       {change(func(k *databases.Kept) { k.Owner = "mallory" }), false, `owner "mallory" is neither`},
		"of a superuser":        {change(func(k *databases.Kept) { k.Owner, k.OwnerSuperuser = "root", true }), true, ""},
		"of the role that asks": {change(func(k *databases.Kept) { k.Owner, k.OwnerUs = "me", true }), true, ""},
		"all that is left":      {change(func(k *databases.Kept) { k.LiveOwner, k.OwnerSuperuser = "", true }), false, "all that is left"},
		"half dropped":          {change(func(k *databases.Kept) { k.Invalid, k.Story.Since = true, now }), true, "interrupted"},
		"half dropped, forged":  {change(func(k *databases.Kept) { k.Invalid, k.Owner = true, "mallory" }), false, "neither"},
		"its drop was begun":    {change(func(k *databases.Kept) { k.Story.Pgmedic, k.Story.Since = pgmedic.StoryDropping, now }), true, "begun"},
		"begun, and opened":     {change(func(k *databases.Kept) { k.Story.Pgmedic, k.Open = pgmedic.StoryDropping, true }), false, "opened"},
		"a copy of what is not there": {change(func(k *databases.Kept) { k.Story.Pgmedic, k.LiveOwner = pgmedic.StoryReady, "" }),
			true, "killed"},
		"a copy of another role": {change(func(k *databases.Kept) { k.Story.Pgmedic, k.Owner = pgmedic.StoryLoading, "mallory" }),
			false, "neither"},
		"a logical slot":        {change(func(k *databases.Kept) { k.LogicalSlots = 1 }), false, "replication slots"},
		"somebody connected":    {change(func(k *databases.Kept) { k.Sessions = 2 }), false, "2 sessions"},
		"prepared transactions": {change(func(k *databases.Kept) { k.PreparedTransactions = 1 }), false, "prepared"},
		"a subscription":        {change(func(k *databases.Kept) { k.Subscriptions = 1 }), false, "subscriptions"},
		"opened":                {change(func(k *databases.Kept) { k.Open = true }), false, "opened to connections"},
		"renamed":               {change(func(k *databases.Kept) { k.Name = "mine" }), false, "renamed"},
		"live":                  {change(func(k *databases.Kept) { k.Name, k.Story.Name = "shop", "shop" }), false, "live"},
		"live, of an old story": {change(func(k *databases.Kept) { k.Name, k.Story.Name = "shop", "" }), false, "live"},
		"a copy made live by hand": {change(func(k *databases.Kept) {
			k.Name, k.Story.Name, k.Story.Pgmedic = "shop", "shop__restore_1", pgmedic.StoryReady
		}), false, "renamed"},
		"a half-loaded copy": {change(func(k *databases.Kept) { k.Story.Pgmedic, k.Open, k.Story.Since = pgmedic.StoryLoading, true, now }),
			true, "killed"},
		"a half-loaded copy in use": {change(func(k *databases.Kept) { k.Story.Pgmedic, k.Sessions = pgmedic.StoryLoading, 1 }),
			false, "1 session is connected to it"},
		"a ready copy": {change(func(k *databases.Kept) { k.Story.Pgmedic = pgmedic.StoryReady }), true, "killed"},
		"of a later version": {change(func(k *databases.Kept) { k.Story.Pgmedic = "physical" }), false,
			"does not know"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := swap.PlanPrune([]databases.Kept{tt.kept}, swap.PrunePolicy{Keep: week, Now: now})
			if len(plan) != 1 || plan[0].Drop != tt.drop || !strings.Contains(plan[0].Reason, tt.reason) || plan[0].Dropped {
				t.Errorf("%+v", plan)
			}
		})
	}
}

// TestPrune drops real databases, and looks again right before it does.
func TestPrune(t *testing.T) {
	live, o := liveClinic(t)
	admin := testkit.Connect(t, server.DSN("postgres"))
	now := time.Now()
	old := now.Add(-8 * 24 * time.Hour)
	for suffix, s := range map[string]pgmedic.Story{
		"__before_old":  {Pgmedic: pgmedic.StoryKept, Since: old},
		"__before_new":  {Pgmedic: pgmedic.StoryKept, Since: now},
		"__before_slot": {Pgmedic: pgmedic.StoryKept, Since: old},
		"__before_late": {Pgmedic: pgmedic.StoryKept, Since: old},
		"__restore_x":   {Pgmedic: pgmedic.StoryLoading, Since: now},
	} {
		s.Of, s.By = live, "restore"
		name := live + suffix
		fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+name+" TEMPLATE template0")
		if suffix == "__before_slot" {
			fixture.Exec(t, server.DSN(name), "SELECT pg_create_logical_replication_slot('prune_slot', 'pgoutput')")
			t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "SELECT pg_drop_replication_slot('prune_slot')") })
		}
		if err := databases.SetStory(t.Context(), admin, name, s); err != nil {
			t.Fatal(err)
		}
		if s.Pgmedic == pgmedic.StoryKept {
			fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
		}
	}
	po := swap.PruneOptions{Target: o.Target, Keep: 7 * 24 * time.Hour, Logger: fixture.Silent()}
	prune := func() map[string]swap.Pruned {
		t.Helper()
		plan, err := swap.Prune(t.Context(), po)
		if err != nil {
			t.Fatal(err)
		}
		ours := map[string]swap.Pruned{}
		for _, p := range plan {
			if suffix, ok := strings.CutPrefix(p.Database, live); ok {
				ours[suffix] = p
			}
		}
		return ours
	}
	for suffix, p := range prune() { // without a word from anyone it is a plan
		if p.Dropped || !fixture.Exists(t, server, live+suffix) {
			t.Errorf("%s: %+v", suffix, p)
		}
	}
	lock, err := databases.AcquireRunLock(t.Context(), o.Target, "postgres", live)
	if err != nil {
		t.Fatal(err)
	}
	only := func(plan []swap.Pruned) error { // nobody else's, of tests before
		for i := range plan {
			plan[i].Drop = plan[i].Drop && strings.HasPrefix(plan[i].Database, live)
		}
		return nil
	}
	po.Confirm = only
	for suffix, p := range prune() {
		if p.Dropped || !fixture.Exists(t, server, live+suffix) {
			t.Errorf("while a run works on it %s: %+v", suffix, p)
		}
	}
	lock.Release(t.Context())
	po.Confirm = func(plan []swap.Pruned) error {
		// Between the plan and its end somebody opens one.
		open(t, live+"__before_late")
		return only(plan)
	}
	done := prune()
	for suffix, want := range map[string]bool{"__before_old": true, "__before_new": false, "__before_slot": false, "__before_late": false, "__restore_x": true} {
		if done[suffix].Dropped != want || fixture.Exists(t, server, live+suffix) == want {
			t.Errorf("%s: %+v, it exists: %t", suffix, done[suffix], fixture.Exists(t, server, live+suffix))
		}
	}
	if patients(t, live) != 40 {
		t.Errorf("%d patients", patients(t, live))
	}
	po.Confirm = func([]swap.Pruned) error { return pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "no") }
	_, err = swap.Prune(t.Context(), po)
	if err != nil { // there may be nothing left to ask about
		fixture.WantKind(t, err, pgmedic.KindNotConfirmed)
	}
}
