package pool_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/pool"
)

// TestNormaliseLikeMonitor: the monitor and the pool hide the same. What the monitor
// has made of a statement, the pool makes into what it makes of the statement itself;
// it only folds lists, besides.
func TestNormaliseLikeMonitor(t *testing.T) {
	const secret = "SECRET"
	for _, sql := range []string{
		"select * from t where a = $1 and b in ($2,$10) and c = 'SECRET'",
		"select 1, -2.5e-10, .5, 0x1F, 1_000 from t1 where x = 'SECRET'",
		`select 'a', 'it''SECRET', E'a\'SECRET', B'01', X'ff', N'SECRET', U&'\0041SECRET' from t`,
		"select 'a'\n  'SECRET' from t",
		`select "A 'b" from "T""x" where "c"='SECRET'`,
		"do $$ begin perform 'SECRET'; end $$",
		"do $a$ $$ SECRET $$ $a$ language plpgsql",
		"select /* SECRET /* doe */ 1 */ a -- SECRET\nfrom t",
		"select\n\t a\r\n from  t where b = 'SECRET'",
		"alter role app with password 'SECRET' valid until 'SECRET'",
		"create user mapping for a server s options (user 'SECRET', password 'SECRET')",
		"copy (select * from t where ssn = 'SECRET') to stdout",
		"set app.patient = 'SECRET'",
		"set app.patient to SECRET",
		`set local app.patient = "SECRET doe", 'x'; select a`,
		"set session app.patient = a, SECRET, 'SECRET'",
		"alter role bob in database d set app.key to SECRET",
		`alter database d set app.key = "SECRET"`,
		"alter system set primary_conninfo = 'password=SECRET'",
		"update t set a = b where c = 3 and d = 'SECRET'",
		"alter table a rename to b",
		"select * from t where name = 'Jane SECRET",
		`select E'Jane SECRET\`,
		"do $body$ begin insert into t values ('SECRET",
		"do $SECRET",
		"select a /* SECRET",
		`select 'a\' , SECRET, 'b' from t`,
		"select größe from 患者 where x='SECRET'",
		"select €e'SECRET\\', 'SECRET'",
		"select '2024-01-01'::date, a::text, 'SECRET'::jsonb ? 'SECRET'",
		"set a = SECRET; update t set c = d",
	} {
		theirs, ours := sqltext.Form{}.Normalise(sql), pool.Normalise(sql)
		if strings.Contains(theirs, secret) || strings.Contains(ours, secret) {
			t.Errorf("%s\nby the monitor %s\nby the pool    %s", sql, theirs, ours)
		}
		// The pool says by an ellipsis where it has left something out.
		if again := pool.Normalise(theirs); again != strings.TrimSuffix(ours, "…") {
			t.Errorf("%s\nby the monitor %s\nthen the pool  %s\nby the pool    %s", sql, theirs, again, ours)
		}
		for cut := range len(sql) {
			if got := pool.Normalise(sql[:cut]); strings.Contains(got, "SECR") {
				t.Errorf("%s\nbecame %s", sql[:cut], got)
			}
		}
	}
}
