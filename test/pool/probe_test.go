package pool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/pool"
)

// TestProbeByAnyone: a role without privileges is enough for a probe, and so is one
// that may not see the control file.
func TestProbeByAnyone(t *testing.T) {
	t.Parallel()
	s := scratchtest.New(t, scratch.Options{TCP: true})
	dsn := scratchtest.Database(t, s)
	conn := admin(t, dsn)
	do(t, conn, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
	url := strings.Replace(s.URL(nameOf(t, dsn)), s.Superuser()+":"+s.Password()+"@", "plain:plain@", 1)
	if !ask[bool](t, conn, "SELECT has_function_privilege('plain', 'pg_control_system()', 'EXECUTE')") {
		t.Error("not everyone may see the control file")
	}
	for _, name := range []string{"as it comes", "forbidden"} {
		if name == "forbidden" {
			do(t, conn, "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() FROM PUBLIC")
		}
		db := open(t, pool.Config{PrimaryURL: url, AcquireTimeout: 5 * time.Second})
		if got := one[string](t, db, "SELECT current_user::text"); got != "plain" {
			t.Errorf("%s: it is %s who asks", name, got)
		}
		if h := db.Health(t.Context()); h.Status != pool.StatusOK || h.Servers[0].Role != "primary" {
			t.Errorf("%s: %+v", name, h)
		}
	}
}
