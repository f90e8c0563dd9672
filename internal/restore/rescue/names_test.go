package rescue_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
)

func namedTables() *pgmedic.Backup {
	long := strings.Repeat("é", 31)
	var tables []pgmedic.Table
	for _, n := range [][2]string{
		{"public", "claims"}, {"audit", "claims"}, {"public", "audit.claims"}, {"public", "Claims"}, {"public", "a*b"}, {"we\"ird", "x.y"},
		{"public", long}, {"audit", long}, {"audit", "notes"},
	} {
		tables = append(tables, pgmedic.Table{Schema: n[0], Name: n[1]})
	}
	tables = append(tables,
		pgmedic.Table{Schema: "parts", Name: "p_1", RootSchema: "public", RootName: "p"},
		pgmedic.Table{Schema: "parts", Name: "p_2", RootSchema: "public", RootName: "p"},
		pgmedic.Table{Schema: "public", Name: "config", Extension: "ext"})
	return &pgmedic.Backup{ID: "20261122T020000Z-7f3a9c", Tables: tables}
}

// TestRescuePatterns names tables as psql does, and gives each a name that no
// other has.
func TestRescuePatterns(t *testing.T) {
	b := namedTables()
	for _, tt := range []struct {
		patterns []string
		want     map[string]string
	}{
		{[]string{"public.claims"}, map[string]string{"public.claims": `"public"."claims"`}},
		{[]string{"PUBLIC.CLAIMS"}, map[string]string{"public.claims": `"public"."claims"`}},
		{[]string{`"Claims"`}, map[string]string{"Claims": `"public"."Claims"`}},
		{[]string{"audit.n?te*"}, map[string]string{"notes": `"audit"."notes"`}},
		{[]string{`"a*b"`}, map[string]string{"a*b": `"public"."a*b"`}},
		{[]string{`"we""ird"."x.y"`}, map[string]string{"x.y": `"we""ird"."x.y"`}},
		{[]string{`public.audit"."claims`}, map[string]string{"audit.claims": `"public"."audit.claims"`}},
		{[]string{"p"}, map[string]string{"p": `"public"."p"`}},
		{[]string{"p_2"}, map[string]string{"p_2": `"parts"."p_2"`}},
		{[]string{"p*"}, map[string]string{"p": `"public"."p"`}},
		{[]string{"notes", "audit.notes", "no*"}, map[string]string{"notes": `"audit"."notes"`}},
	} {
		got, err := rescue.Chosen(b, tt.patterns...)
		if err != nil || !maps.Equal(got, tt.want) {
			t.Errorf("%q: got %q, %v, want %q", tt.patterns, got, err, tt.want)
		}
	}
	all, err := rescue.Chosen(b, "*")
	if err != nil || len(all) != 10 {
		t.Errorf("all: %q, %v", all, err)
	}
	for as := range all {
		if len(as) > 63 || !strings.HasPrefix(as, strings.ToValidUTF8(as, "")) {
			t.Errorf("%q can't be a name", as)
		}
	}
	if all["audit.claims"] != `"public"."audit.claims"` || all["public.claims"] != `"public"."claims"` {
		t.Errorf("a name was taken from the table that has it: %q", all)
	}
	for pattern, kind := range map[string]pgmedic.Kind{
		"config": pgmedic.KindUsage, "nothing*": pgmedic.KindNotFound, `"p*"`: pgmedic.KindNotFound, "": pgmedic.KindUsage, ".": pgmedic.KindUsage,
	} {
		if _, err := rescue.Chosen(b, pattern); pgmedic.KindOf(err) != kind {
			t.Errorf("%q: %v, want %s", pattern, err, kind)
		}
	}
}
