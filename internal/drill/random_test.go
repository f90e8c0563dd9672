package drill_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/test/fixture"
)

func TestSample(t *testing.T) {
	entry := func(id string, purpose pgmedic.Purpose) catalog.Entry {
		return catalog.Entry{Backup: &pgmedic.Backup{ID: id, Purpose: purpose}}
	}
	bad := pgmedic.Errorf(pgmedic.KindIntegrity, "", "backup d is damaged")
	listing := catalog.Listing{
		Entries: []catalog.Entry{
			entry("f", pgmedic.PurposeRegular), entry("e", pgmedic.PurposeSafety), entry("c", pgmedic.PurposeRegular),
			entry("b", pgmedic.PurposeRegular), entry("a", pgmedic.PurposeRegular)},
		Damaged: []catalog.Damaged{{ID: "d", Err: bad}},
	}
	for _, tt := range []struct {
		n, pick, of int
		want        string
	}{
		{1, 0, 1, "f"}, {3, 0, 3, "f"}, {3, 1, 3, "damaged"}, {3, 2, 3, "c"}, {100, 4, 5, "a"}, {4, 3, 4, "b"},
	} {
		got, err := drill.Sample(listing, tt.n, func(n int) int {
			if n != tt.of {
				t.Errorf("of the newest %d one in %d was chosen, want %d", tt.n, n, tt.of)
			}
			return tt.pick
		})
		if tt.want == "damaged" {
			fixture.WantKind(t, err, pgmedic.KindIntegrity, "damaged")
			continue
		}
		if err != nil || got.Backup.ID != tt.want {
			t.Errorf("newest %d, number %d: %+v, %v", tt.n, tt.pick, got.Backup, err)
		}
	}
	// Of two that began in one second the damaged one counts as newer.
	inOneSecond := catalog.Listing{
		Entries: []catalog.Entry{entry("20261129T160320Z-ffffff", pgmedic.PurposeRegular)}, Damaged: []catalog.Damaged{{ID: "20261129T160320Z-aaaaaa", Err: bad}},
	}
	_, err := drill.Sample(inOneSecond, 1, func(int) int { return 0 })
	fixture.WantKind(t, err, pgmedic.KindIntegrity, "damaged")
	_, err = drill.Sample(catalog.Listing{}, 3, func(int) int { return 0 })
	fixture.WantKind(t, err, pgmedic.KindNotFound)
}
