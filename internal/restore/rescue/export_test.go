package rescue

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/digest"
)

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
