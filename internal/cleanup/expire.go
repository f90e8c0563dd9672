package cleanup

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

// clockSlack is how far ahead of now a file may have been written to: one that is further
// ahead was written under a wrong clock, or now is wrong, and its age is not known.
const clockSlack = 24 * time.Hour

// Expire decides which of several files of one kind go: those that were last written to
// longer ago than keep, but never the newest of all. A keep of zero deletes none. The
// items come back oldest first.
func Expire(items []Item, keep time.Duration, now time.Time) []Item {
	items = slices.Clone(items)
	slices.SortFunc(items, func(x, y Item) int {
		return cmp.Or(x.ModifiedAt.Compare(y.ModifiedAt), cmp.Compare(x.Path, y.Path))
	})
	for i := range items {
		item := &items[i]
		switch {
		case i == len(items)-1:
			item.Action, item.Reason = Keep, "it is the newest"
		case keep <= 0:
			item.Action, item.Reason = Keep, "none is deleted by its age"
		default:
			*item = expireAll(*item, keep, now)
		}
	}
	return items
}

// expireAll decides about a file by its age alone.
func expireAll(item Item, keep time.Duration, now time.Time) Item {
	age := now.Sub(item.ModifiedAt)
	switch {
	case age < -clockSlack:
		item.Action, item.Reason = Keep, "its time is in the future"
	case age <= keep:
		item.Action, item.Reason = Keep, "it is not older than "+words.Duration(keep)
	default:
		item.Action, item.Reason = Delete, "it is older than "+words.Duration(keep)
	}
	return item
}
