package rescue

import (
	"context"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// DropDead drops what a killed rescue left, as the next rescue does.
func DropDead(ctx context.Context, t postgres.Target, p *PrunedSchema) error {
	return dropIf(ctx, t, p, PrunedSchema.dead)
}

// Chosen returns what patterns name, by the names in the rescue's schema.
func Chosen(b *pgmedic.Backup, patterns ...string) (map[string]string, error) {
	names, err := chooseTables(b, patterns, "")
	chosen := map[string]string{}
	for _, n := range names {
		chosen[n.as] = n.String()
	}
	return chosen, err
}

// NotByValue says why the sums of some tables can't be compared with rows; empty means
// that they can.
func NotByValue(sums *digest.Database, tables []int) string {
	_, why := recordedOf(sums, tables)
	return why
}
