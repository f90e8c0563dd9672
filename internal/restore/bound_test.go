package restore_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
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
