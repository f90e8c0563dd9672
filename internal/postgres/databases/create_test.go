package databases_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// TestPropertiesRoundTrip gives a new database what was read of another one,
// and reads the same of it.
func TestPropertiesRoundTrip(t *testing.T) {
	target, conn := database(t)
	for _, name := range []string{"prop owner", "prop_guest", `prop "q"`} {
		postgrestest.Role(t, conn, name, "")
	}
	db := sqltext.QuoteIdent(target.Database())
	t.Cleanup(func() {
		postgrestest.Run(t, conn, "ALTER DATABASE "+db+" OWNER TO "+sqltext.QuoteIdent(server.Superuser()), `DROP OWNED BY "prop owner", prop_guest, "prop ""q"""`)
	})
	set := "ALTER DATABASE " + db + " SET "
	postgrestest.Run(t, conn, "ALTER DATABASE "+db+" OWNER TO \"prop owner\"",
		set+`search_path = "$user", public, "with, comma", "with ""quotes""", it`, set+`temp_tablespaces = ''`,
		set+"work_mem = '7MB'", set+`application_name = 'it''s \ %m, '`, set+"DateStyle = 'German, DMY'", set+"pgmedic.some_setting = 'a=b'",
		`ALTER ROLE prop_guest IN DATABASE `+db+` SET search_path = ''`, `ALTER ROLE "prop ""q""" IN DATABASE `+db+` SET work_mem = '9MB'`,
		"REVOKE ALL ON DATABASE "+db+" FROM PUBLIC", "GRANT TEMPORARY ON DATABASE "+db+" TO PUBLIC",
		"GRANT CONNECT ON DATABASE "+db+" TO prop_guest WITH GRANT OPTION", `GRANT CREATE ON DATABASE `+db+` TO "prop ""q"""`,
		"REVOKE CREATE ON DATABASE "+db+` FROM "prop owner"`, "ALTER DATABASE "+db+" CONNECTION LIMIT 17")
	if err := databases.SetComment(t.Context(), conn, target.Database(), `it's \ the "shop"`); err != nil {
		t.Fatal(err)
	}
	version := postgrestest.Query[int](t, conn, "SELECT current_setting('server_version_num')::int")
	want, err := postgres.ReadDatabase(t.Context(), conn, version)
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Settings) != 8 || len(want.ACL) != 5 || len(want.Roles) != 4 || want.DefaultACL || want.ConnectionLimit != 17 {
		t.Errorf("read %+v", want)
	}

	_, a := admin(t)
	const name = `copy of it's "shop"`
	if err := databases.Create(t.Context(), a, name, want, version); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := databases.Drop(context.WithoutCancel(t.Context()), a, name, version); err != nil {
			t.Error(err)
		}
	})
	_, err = postgres.Connect(t.Context(), target.WithDatabase(name))
	postgrestest.WantError(t, err, pgmedic.KindUnreachable, "not currently accepting connections")
	if err := databases.Open(t.Context(), a, name); err != nil {
		t.Fatal(err)
	}
	if postgrestest.Query[bool](t, a, "SELECT has_database_privilege('prop_guest', $1, 'CONNECT')", name) {
		t.Error("while it is empty anybody may connect")
	}
	refused, err := databases.ApplySettings(t.Context(), a, name, want)
	if err != nil || len(refused) > 0 {
		t.Fatalf("%v, refused %v", err, refused)
	}
	if err := databases.ApplyAccess(t.Context(), a, name, want); err != nil {
		t.Fatal(err)
	}
	if err := databases.SetComment(t.Context(), a, name, want.Comment); err != nil {
		t.Fatal(err)
	}
	copied := postgrestest.Connect(t, target.WithDatabase(name))
	got, err := postgres.ReadDatabase(t.Context(), copied, version)
	if err != nil {
		t.Fatal(err)
	}
	postgres.Close(t.Context(), copied)
	got.Name, got.SizeBytes = want.Name, want.SizeBytes
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the copy has\n%+v, want\n%+v", got, want)
	}
	postgrestest.WantError(t, databases.Create(t.Context(), a, name, want, version), pgmedic.KindConflict, "exists already", "--into")
}

// TestDefaultProperties: a database without any gets none.
func TestDefaultProperties(t *testing.T) {
	_, conn := database(t)
	version := postgrestest.Query[int](t, conn, "SELECT current_setting('server_version_num')::int")
	d, err := postgres.ReadDatabase(t.Context(), conn, version)
	if err != nil {
		t.Fatal(err)
	}
	if !d.DefaultACL || len(d.ACL) > 0 || len(d.Settings) > 0 || d.ConnectionLimit != -1 || d.Comment != "" {
		t.Errorf("read %+v", d)
	}
	d.Settings = []pgmedic.Setting{{Name: "nonesuch", Value: "1"}, {Name: "work_mem", Value: "much"}, {Role: "nobody here", Name: "work_mem", Value: "1MB"}}
	refused, err := databases.ApplySettings(t.Context(), conn, d.Name, d)
	if err != nil || fmt.Sprint(refused) != "[nonesuch work_mem work_mem]" {
		t.Errorf("%v, refused %v", err, refused)
	}
	// Taken away and given back it is the default still.
	err = databases.Open(t.Context(), conn, d.Name)
	if err == nil {
		err = databases.ApplyAccess(t.Context(), conn, d.Name, d)
	}
	again, readErr := postgres.ReadDatabase(t.Context(), conn, version)
	if err != nil || readErr != nil || !again.DefaultACL || len(again.ACL) > 0 {
		t.Errorf("%v %v, read %+v", err, readErr, again)
	}
}

func TestDropDatabaseInUse(t *testing.T) {
	target, conn := admin(t)
	postgrestest.Run(t, conn, "CREATE DATABASE drop_me TEMPLATE template0")
	postgrestest.Connect(t, target.WithDatabase("drop_me"))
	for range 2 { // the second time it is not there
		if err := databases.Drop(t.Context(), conn, "drop_me", 120000); err != nil {
			t.Error(err)
		}
	}
}

func TestDerivedName(t *testing.T) {
	for name, want := range map[string]string{
		"shop": "shop__before_00000000",
		"sixty-three bytes of a name, which is what PostgreSQL keeps of i": "sixty-three bytes of a name, which is what Post__before_00000000",
		"üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüü":                                  "üüüüüüüüüüüüüüüüüüüüüüü__before_00000000",
	} {
		got := databases.DerivedName(name, "__before_00000000")
		if got != want && len(want) <= databases.MaxNameBytes || len(got) > databases.MaxNameBytes || !utf8.ValidString(got) {
			t.Errorf("%s becomes %s (%d bytes)", name, got, len(got))
		}
	}
}

func TestMissing(t *testing.T) {
	_, conn := admin(t)
	roles, err := databases.MissingRoles(t.Context(), conn, []pgmedic.Role{{Name: server.Superuser()}, {Name: "nobody here"}})
	if err != nil || len(roles) != 1 || roles[0].Name != "nobody here" {
		t.Errorf("roles %v %v", roles, err)
	}
	spaces, err := databases.MissingTablespaces(t.Context(), conn, pgmedic.Database{Tablespace: "pg_default", Tablespaces: []string{"x", "x", "pg_global"}})
	if err != nil || fmt.Sprint(spaces) != "[x]" {
		t.Errorf("tablespaces %v %v", spaces, err)
	}
}

func TestCountRows(t *testing.T) {
	_, conn := database(t)
	postgrestest.Run(t, conn, "CREATE TABLE public.p (a int); CREATE TABLE public.c () INHERITS (public.p); INSERT INTO public.p VALUES (1); INSERT INTO public.c VALUES (1), (2)",
		"CREATE TABLE public.root (k int) PARTITION BY LIST (k); CREATE TABLE public.l1 PARTITION OF public.root DEFAULT; INSERT INTO public.root VALUES (1), (2), (3)")
	tables := []pgmedic.Table{
		{Schema: "public", Name: "p"}, {Schema: "public", Name: "c"}, {Schema: "public", Name: "l1", RootSchema: "public", RootName: "root"},
		{Schema: "public", Name: "gone"}, {Schema: "gone", Name: "gone"},
	}
	got, err := databases.CountRows(t.Context(), conn, tables)
	want := map[string]int64{`"public"."p"`: 1, `"public"."c"`: 2, `"public"."root"`: 3}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("counted %v %v", got, err)
	}
}
