package extract

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
)

// TestChoose: a partitioned table brings its partitions, over several levels and in any
// order; one of its partitions brings nothing else; what nothing matches is not there.
func TestChoose(t *testing.T) {
	all := []relation{
		{OID: 9, Schema: "app", Name: "leaf", Parents: []uint32{8}},
		{OID: 8, Schema: "app", Name: "middle", Parents: []uint32{7}},
		{OID: 7, Schema: "public", Name: "visits"},
		{OID: 6, Schema: "public", Name: "Claims"},
		{OID: 5, Schema: "app", Name: "Claims"},
	}
	for pattern, want := range map[string]string{
		"visits":          `"app"."leaf" "app"."middle" "public"."visits"`,
		"app.middle":      `"app"."leaf" "app"."middle"`,
		"app.leaf":        `"app"."leaf"`,
		`"Claims"`:        `"public"."Claims" "app"."Claims"`,
		`public."Claims"`: `"public"."Claims"`,
		"":                `"app"."leaf" "app"."middle" "public"."visits" "public"."Claims" "app"."Claims"`,
	} {
		o := Options{Database: "clinic", Moment: "noon"}
		if pattern != "" {
			o.Tables = []string{pattern}
		}
		chosen, others, err := choose(all, o)
		var names []string
		for _, r := range chosen {
			names = append(names, r.String())
		}
		if got := strings.Join(names, " "); err != nil || got != want || len(chosen)+len(others) != len(all) {
			t.Errorf("%s: %s and %v, %v, want %s", pattern, got, others, err, want)
		}
		if slices.ContainsFunc(others, func(r relation) bool { return slices.Contains(names, r.String()) }) {
			t.Errorf("%s: %v are in both", pattern, others)
		}
	}
	_, _, err := choose(all, Options{Database: "clinic", Moment: "noon", Tables: []string{"visits", "claims"}})
	if pgmedic.KindOf(err) != pgmedic.KindNotFound || err.Error() != `there was no table claims in database "clinic" at noon` {
		t.Errorf("a table that is not there: %v", err)
	}
	if _, _, err := choose(all, Options{Tables: []string{"a.b.c"}}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("not a pattern: %v", err)
	}
}
