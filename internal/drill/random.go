package drill

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

// Sample returns a random one of the newest n regular backups in a listing, all
// with the same chance; intn returns a number from 0 to less than its argument.
// A backup whose manifest is damaged can be chosen, too, and its damage is then the
// error: leaving it out would hide it.
func Sample(l catalog.Listing, n int, intn func(int) int) (catalog.Entry, error) {
	type candidate struct {
		entry catalog.Entry
		err   error
	}
	var all []candidate
	damaged := l.Damaged // newest first, as the entries
	for _, e := range l.Entries {
		if e.Backup.Purpose == pgmedic.PurposeSafety {
			continue
		}
		for len(damaged) > 0 && damaged[0].MayBeNewer(e.Backup.ID) {
			all = append(all, candidate{err: damaged[0].Err})
			damaged = damaged[1:]
		}
		all = append(all, candidate{entry: e})
	}
	for _, d := range damaged {
		all = append(all, candidate{err: d.Err})
	}
	if len(all) == 0 {
		return catalog.Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, "take one: pgmedic backup", "there is no backup to choose from")
	}
	chosen := all[intn(min(max(n, 1), len(all)))]
	return chosen.entry, chosen.err
}
