package restore_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestBoundCheck warns of pg_cron, where the copy has another name than the one
// database in which its server makes it.
func TestBoundCheck(t *testing.T) {
	with := pgmedic.Database{Name: "clinic", Extensions: []pgmedic.Extension{{Name: "citext"}, {Name: "pg_cron"}}}
	c := restore.BoundCheck(with, "clinic", "clinic__restore_1", "")
	if c == nil || c.Outcome != pgmedic.OutcomeWarn || !strings.Contains(c.Detail, `database "clinic" only`) || c.Hint == "" {
		t.Errorf("%+v", c)
	}
	if c := restore.BoundCheck(with, "clinic", "clinic__restore_1", "clinic"); c == nil || !strings.Contains(c.Detail, "right after the swap") {
		t.Errorf("before a swap: %+v", c)
	}
	if c := restore.BoundCheck(with, "clinic", "clinic", ""); c != nil {
		t.Errorf("under the right name: %+v", c)
	}
	if c := restore.BoundCheck(pgmedic.Database{Name: "clinic"}, "clinic", "copy", ""); c != nil {
		t.Errorf("without the extension: %+v", c)
	}
}

// TestForeseePrivileged: that a role may not be let make an extension is said before a
// row is loaded, to a role that is no superuser.
func TestForeseePrivileged(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE EXTENSION pg_buffercache", "CREATE EXTENSION citext")
	fixture.Exec(t, server.DSN("postgres"), "CREATE ROLE privileged_none LOGIN CREATEDB IN ROLE "+server.Superuser())
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "DROP ROLE privileged_none") })
	c := fixture.NewCatalog(t)
	o := fixture.RestoreOptions(t, server, c, fixture.TakeBackup(t, dsn, c), fixture.Name(t, server))
	warned := func() string {
		t.Helper()
		p, err := restore.Foresee(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, check := range p.Checks {
			if check.Outcome == pgmedic.OutcomeWarn {
				said = append(said, check.Detail)
			}
		}
		return strings.Join(said, "; ")
	}
	if said := warned(); said != "" {
		t.Errorf("to a superuser: %q", said)
	}
	o.Target = o.Target.With("options", "-c role=privileged_none")
	if said := warned(); !strings.Contains(said, "pg_buffercache") || strings.Contains(said, "citext") {
		t.Errorf("to another role: %q", said)
	}
}
