package databases_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// pair makes a live and an incoming database that each say who they are.
func pair(t *testing.T, live, incoming string) (databases.SwapOptions, *pgx.Conn) {
	t.Helper()
	target, conn := admin(t)
	o := databases.SwapOptions{
		Live: live, LiveExists: true, Incoming: incoming, IncomingComment: "of the backup", Kept: databases.DerivedName(live, "__before_00000000"),
		Story:  pgmedic.Story{Pgmedic: pgmedic.StoryKept, Of: live, By: "restore", Since: time.Now().UTC(), Comment: "it's \\ own"},
		Target: target, Maintenance: "postgres", Logger: postgrestest.Silent(), Now: time.Now,
	}
	t.Cleanup(func() {
		for _, name := range []string{live, incoming, o.Kept} {
			if err := databases.Drop(context.WithoutCancel(t.Context()), conn, name, 150000); err != nil {
				t.Error(err)
			}
		}
	})
	for name, who := range map[string]string{live: "old", incoming: "new"} {
		postgrestest.Run(t, conn, "CREATE DATABASE "+sqltext.QuoteIdent(name)+" TEMPLATE template0")
		other := postgrestest.Connect(t, target.WithDatabase(name))
		postgrestest.Run(t, other, "CREATE TABLE public.who (name text); INSERT INTO public.who VALUES ('"+who+"')")
		postgres.Close(t.Context(), other)
	}
	return o, conn
}

// who says which database answers to a name.
func who(t *testing.T, target postgres.Target, name string) string {
	t.Helper()
	conn := postgrestest.Connect(t, target.WithDatabase(name))
	defer postgres.Close(t.Context(), conn)
	return postgrestest.Query[string](t, conn, "SELECT name FROM public.who")
}

func comment(t *testing.T, conn *pgx.Conn, name string) string {
	t.Helper()
	return postgrestest.Query[string](t, conn, "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1", name)
}

func TestSwapNames(t *testing.T) {
	for name, live := range map[string]string{
		"plain": "swap_live", "quotes and spaces": `it's "ours" \ x`, "63 bytes": strings.Repeat("n", 63), "multibyte": strings.Repeat("ü", 31),
	} {
		t.Run(name, func(t *testing.T) {
			o, conn := pair(t, live, databases.DerivedName(live, "__restore_00000000"))
			postgrestest.Connect(t, o.Target.WithDatabase(live)) // a client that is ended
			outage, err := databases.Swap(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the name was away for %s", outage)
			if who(t, o.Target, live) != "new" || comment(t, conn, live) != "of the backup" {
				t.Errorf("live is %s, %s", who(t, o.Target, live), comment(t, conn, live))
			}
			var story pgmedic.Story
			if err := json.Unmarshal([]byte(comment(t, conn, o.Kept)), &story); err != nil || story.Comment != o.Story.Comment || story.Of != live {
				t.Errorf("the story is %+v: %v", story, err)
			}
			_, err = postgres.Connect(t.Context(), o.Target.WithDatabase(o.Kept))
			postgrestest.WantError(t, err, pgmedic.KindUnreachable, "not currently accepting connections")
			// The same the other way.
			back := o
			back.Incoming, back.Kept, back.IncomingComment = o.Kept, o.Incoming, ""
			if _, err := databases.Swap(t.Context(), back); err != nil {
				t.Fatal(err)
			}
			if who(t, o.Target, live) != "old" || comment(t, conn, live) != "" {
				t.Error("it is not as it was")
			}
		})
	}
}

func TestSwapWithoutLive(t *testing.T) {
	o, conn := pair(t, "swap_gone", "swap_gone_new")
	if err := databases.Drop(t.Context(), conn, o.Live, 150000); err != nil {
		t.Fatal(err)
	}
	o.LiveExists = false
	if _, err := databases.Swap(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if who(t, o.Target, o.Live) != "new" {
		t.Error("the wrong one is live")
	}
	_, err := databases.Swap(t.Context(), o)
	postgrestest.WantError(t, err, pgmedic.KindNotFound, `no database "swap_gone_new"`)
}

// TestSwapUnderClients has clients connect and ask in a loop.
func TestSwapUnderClients(t *testing.T) {
	o, _ := pair(t, "swap_busy", "swap_busy_new")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	swapped := make(chan struct{})
	var group sync.WaitGroup
	errs := make(chan error, 20)
	for range 20 {
		group.Add(1)
		go func() {
			defer group.Done()
			errs <- client(ctx, o.Target.WithDatabase(o.Live), swapped)
		}()
	}
	outage, err := databases.Swap(ctx, o)
	close(swapped)
	if err != nil {
		cancel()
		t.Error(err)
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("the name was away for %s", outage)
}

// client asks until it has seen the new database after the swap.
func client(ctx context.Context, target postgres.Target, swapped chan struct{}) error {
	sawNew := false
	for ctx.Err() == nil {
		name, err := ask(ctx, target)
		switch code := postgres.Code(err); {
		case err == nil && name == "new":
			sawNew = true
			select {
			case <-swapped:
				return nil
			default:
			}
		case err == nil && (name != "old" || sawNew):
			return fmt.Errorf("saw %q after new: %t", name, sawNew)
		case err == nil, code == "57P01", code == "3D000", code == "57P03", code == "55000", code == "53300":
		case code == "" && pgmedic.KindOf(postgres.Wrap(err, "ask")) == pgmedic.KindUnreachable: // ended amid an answer
		default:
			return fmt.Errorf("%s: %w", code, err)
		}
	}
	return errors.New("never saw the new database")
}

func ask(ctx context.Context, target postgres.Target) (name string, err error) {
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		return "", err
	}
	defer postgres.Close(ctx, conn)
	err = conn.QueryRow(ctx, "SELECT name FROM public.who").Scan(&name)
	return name, err
}

// unchanged checks that nothing of a swap took place.
func unchanged(t *testing.T, o databases.SwapOptions, conn *pgx.Conn) {
	t.Helper()
	if who(t, o.Target, o.Live) != "old" || who(t, o.Target, o.Incoming) != "new" || comment(t, conn, o.Live) != "" {
		t.Error("something changed")
	}
	if exists, err := databases.Exists(t.Context(), conn, o.Kept); exists || err != nil {
		t.Errorf("the kept database exists: %t %v", exists, err)
	}
}

// TestSwapDenied: a session of a superuser can't be ended by another role. Then no
// other is ended either.
func TestSwapDenied(t *testing.T) {
	o, conn := pair(t, "swap_denied", "swap_denied_new")
	postgrestest.Role(t, conn, "swapper", "LOGIN CREATEDB")
	for _, name := range []string{o.Live, o.Incoming} {
		postgrestest.Run(t, conn, "ALTER DATABASE "+name+" OWNER TO swapper")
		t.Cleanup(func() {
			postgrestest.Run(t, conn, "ALTER DATABASE "+name+" OWNER TO "+sqltext.QuoteIdent(server.Superuser()))
		})
	}
	client := postgrestest.Connect(t, o.Target.WithDatabase(o.Live))
	as := o
	as.Target = o.Target.With("user", "swapper")
	own := postgrestest.Connect(t, as.Target.WithDatabase(o.Incoming))
	_, err := databases.Swap(t.Context(), as)
	postgrestest.WantError(t, err, pgmedic.KindConflict, `database "swap_denied" is in use by sessions that role "swapper" may not end`,
		strconv.FormatUint(uint64(client.PgConn().PID()), 10), "clients")
	postgrestest.Run(t, client, "SELECT 1")
	postgrestest.Run(t, own, "SELECT 1")
	unchanged(t, o, conn)
}

// TestSwapOwners: what is set aside belongs to the role that swaps where the two
// databases have other owners, and comes back with its own.
func TestSwapOwners(t *testing.T) {
	o, conn := pair(t, "swap_owners", "swap_owners_new")
	for _, name := range []string{"owner_old", "owner_new", "owner_lost"} {
		postgrestest.Role(t, conn, name, "")
	}
	postgrestest.Role(t, conn, "owner_swapper", "LOGIN CREATEDB IN ROLE owner_old, owner_new")
	postgrestest.Run(t, conn, "ALTER DATABASE swap_owners OWNER TO owner_old", "ALTER DATABASE swap_owners_new OWNER TO owner_new")
	owner := func(name string) string {
		return postgrestest.Query[string](t, conn, "SELECT datdba::regrole::text FROM pg_database WHERE datname = $1", name)
	}
	t.Cleanup(func() {
		for _, name := range []string{o.Live, o.Incoming, o.Kept} {
			if there, err := databases.Exists(context.WithoutCancel(t.Context()), conn, name); there && err == nil {
				postgrestest.Run(t, conn, "ALTER DATABASE "+name+" OWNER TO "+sqltext.QuoteIdent(server.Superuser()))
			}
		}
	})
	o.Target = o.Target.With("user", "owner_swapper")
	if _, err := databases.Swap(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var story pgmedic.Story
	if err := json.Unmarshal([]byte(comment(t, conn, o.Kept)), &story); err != nil || story.Owner != "owner_old" ||
		owner(o.Kept) != "owner_swapper" || owner(o.Live) != "owner_new" {
		t.Errorf("kept by %s, live of %s, %+v", owner(o.Kept), owner(o.Live), story)
	}
	back := o
	back.Incoming, back.Kept, back.IncomingOwner = o.Kept, o.Incoming, "owner_lost"
	client := postgrestest.Connect(t, o.Target.WithDatabase(o.Live))
	_, err := databases.Swap(t.Context(), back)
	postgrestest.WantError(t, err, pgmedic.KindUnreachable, `not a member of "owner_lost"`)
	postgrestest.Run(t, client, "SELECT 1") // nobody was ended for it
	back.IncomingOwner = story.Owner
	if _, err := databases.Swap(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	target, _ := admin(t)
	if who(t, target, o.Live) != "old" || owner(o.Live) != "owner_old" || owner(back.Kept) != "owner_swapper" {
		t.Errorf("live is %s of %s, kept by %s", who(t, target, o.Live), owner(o.Live), owner(back.Kept))
	}
}

// TestSwapKilled ends the swapping session between the two renames.
func TestSwapKilled(t *testing.T) {
	o, conn := pair(t, "swap_killed", "swap_killed_new")
	// A comment in an open transaction keeps the second rename waiting.
	blocker := postgrestest.Connect(t, o.Target)
	postgrestest.Run(t, blocker, "BEGIN", "COMMENT ON DATABASE "+o.Incoming+" IS 'x'")
	got := make(chan error, 1)
	go func() {
		_, err := databases.Swap(t.Context(), o)
		got <- err
	}()
	testkit.Eventually(t, time.Minute, "the second rename was under way and is killed", func() bool {
		return postgrestest.Query[int](t, conn, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER DATABASE "swap_killed_new" RENAME%'`) > 0
	})
	err := <-got
	postgrestest.WantError(t, err, pgmedic.KindUnreachable, "swap the databases")
	postgrestest.Run(t, blocker, "ROLLBACK")
	unchanged(t, o, conn)
}

func TestSwapObstacles(t *testing.T) {
	target, conn := database(t)
	live := target.Database()
	look := func() []error {
		t.Helper()
		_, a := admin(t)
		obstacles, err := databases.Obstacles(t.Context(), a, live)
		if err != nil {
			t.Fatal(err)
		}
		return obstacles
	}
	if found := look(); len(found) != 0 {
		t.Errorf("found %v", found)
	}
	// The slot first: making one waits for transactions to end, prepared ones too.
	postgrestest.Run(t, conn, "SELECT pg_create_logical_replication_slot('a_slot', 'pgoutput')",
		"CREATE TABLE public.t (x int)", "BEGIN", "INSERT INTO public.t VALUES (1)", "PREPARE TRANSACTION 'two phases'",
		"CREATE SUBSCRIPTION sub CONNECTION 'dbname=nonesuch' PUBLICATION p WITH (connect = false)")
	t.Cleanup(func() {
		postgrestest.Run(t, conn, "ROLLBACK PREPARED 'two phases'", "SELECT pg_drop_replication_slot('a_slot')",
			"ALTER SUBSCRIPTION sub SET (slot_name = NONE)", "DROP SUBSCRIPTION sub")
	})
	found := look()
	if len(found) != 3 {
		t.Fatalf("found %v", found)
	}
	for i, want := range []string{"prepared transaction: two phases", "logical replication slot: a_slot", "subscription: sub"} {
		postgrestest.WantError(t, found[i], pgmedic.KindConflict, want, live)
		if pgmedic.HintOf(found[i]) == "" {
			t.Errorf("no hint for %v", found[i])
		}
	}
}

func TestReadStories(t *testing.T) {
	target, conn := admin(t)
	for i, name := range []string{"story_b", "story_c", "story_a"} {
		postgrestest.Run(t, conn, "CREATE DATABASE "+name+" TEMPLATE template0")
		t.Cleanup(func() { postgrestest.Run(t, conn, "DROP DATABASE "+name) })
		err := databases.SetStory(t.Context(), conn, name, pgmedic.Story{Pgmedic: pgmedic.StoryKept, Of: "shop", Since: time.Unix(int64(1000*i), 0)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"story_x": `{"pgmedic": broken`, "story_y": "somebody's own", "story_z": `{"pgmedic":"kept"`} {
		postgrestest.Run(t, conn, "CREATE DATABASE "+name+" TEMPLATE template0")
		t.Cleanup(func() { postgrestest.Run(t, conn, "DROP DATABASE "+name) })
		if err := databases.SetComment(t.Context(), conn, name, text); err != nil {
			t.Fatal(err)
		}
	}
	stories, err := databases.ReadStories(t.Context(), postgrestest.Connect(t, target))
	if err != nil || strings.Join(names(stories), " ") != "story_a story_c story_b" || stories[0].Story.Of != "shop" {
		t.Errorf("got %+v %v", stories, err)
	}
}
