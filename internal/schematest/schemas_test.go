package schematest_test

import (
	"flag"
	"reflect"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/schematest"
)

var update = flag.Bool("update", false, "write the schemas anew")

const later = " Readers should ignore fields that they don't know: later versions add some."

// TestSchemas holds the schemas to the types. Those of what the program prints are held
// beside it.
func TestSchemas(t *testing.T) {
	for _, s := range []schematest.Schema{
		{
			File: "manifest.schema.json", Title: "pgmedic manifest", Type: reflect.TypeFor[pgmedic.Backup](), Written: true,
			Description: "manifest.json, the record of one backup." + later + " See docs/format.md.",
		},
		{
			File: "receipt.schema.json", Title: "pgmedic receipt", Type: reflect.TypeFor[pgmedic.Receipt](), Written: true,
			Description: "The record of a verify, a drill or a restore, stored beside the backup." + later + " See docs/drills.md.",
		},
		{
			File: "report.schema.json", Title: "pgmedic report", Type: reflect.TypeFor[render.Report](), Written: true,
			Description: "The output of pgmedic report --format json." + later,
		},
		{
			File: "inventory.schema.json", Title: "pgmedic inventory", Type: reflect.TypeFor[snapshot.Inventory](),
			Description: "inventory.json of a backup: the objects of the database, each with a hash of its definition." + later + " See docs/format.md.",
		},
		{
			File: "sums.schema.json", Title: "pgmedic sums", Type: reflect.TypeFor[digest.Database](),
			Description: "sums.json of a backup: the sums by which a restored copy is compared value by value." + later + " See docs/format.md.",
		},
		{
			File: "epoch.schema.json", Title: "pgmedic epoch", Type: reflect.TypeFor[archive.EpochInfo](),
			Description: "epoch.json of an epoch of stored WAL." + later + " See docs/format.md.",
		},
		{
			File: "hold.schema.json", Title: "pgmedic hold", Type: reflect.TypeFor[catalog.Hold](),
			Description: "hold-NAME.json in a backup's folder, which keeps the backup from being deleted." + later + " See docs/format.md.",
		},
		{
			File: "mark.schema.json", Title: "pgmedic mark", Type: reflect.TypeFor[catalog.Mark](),
			Description: "doomed.json in a backup's folder, which says that the backup will be deleted." + later + " See docs/format.md.",
		},
		{
			File: "event.schema.json", Title: "pgmedic event", Type: reflect.TypeFor[notify.Event](),
			Description: "What a webhook receives." + later + " See docs/notifications.md.",
		},
		{
			File: "audit-record.schema.json", Title: "pgmedic audit record", Type: reflect.TypeFor[audit.Record](),
			Description: "One line of the audit log." + later + " See docs/audit.md.",
		},
	} {
		schematest.Hold(t, s, *update)
	}
}
