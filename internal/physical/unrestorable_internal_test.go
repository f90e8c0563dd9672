package physical

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/replication"
)

// TestCheckTablespaces: what the server says of its tablespaces is enough to refuse them where
// no ordinary session is had.
func TestCheckTablespaces(t *testing.T) {
	for location, right := range map[string]bool{"/srv/a": true, "/srv/a/": true, "pg_tblspc/16395": false, "": false, "/": false, "/srv/a\nb": false} {
		err := checkTablespaces([]replication.BaseBackupTablespace{{OID: 16384, Location: "/srv/first"}, {OID: 16395, Location: location}})
		if right != (err == nil) || !right && pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%q: %v", location, err)
		}
	}
}
