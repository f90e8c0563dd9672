package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/words"
)

// copyLookTimeout bounds how long a listing waits for a store of copies.
const copyLookTimeout = 10 * time.Second

// copyStore is one store of copies, and what was found there.
type copyStore struct {
	Name  string `json:"name"`
	Store string `json:"store"`
	// Error says why nothing is known of it.
	Error string `json:"error,omitempty"`

	have catalog.Presences
}

// copyState is one backup in one store of copies.
type copyState struct {
	Name  string           `json:"name"`
	Store string           `json:"store"`
	State catalog.Presence `json:"state"`
}

// copiesRow says in how many stores the backup is whole, of how many wanted, the
// one that was read included. Unknown are those that could not be read.
type copiesRow struct {
	Complete int `json:"complete"`
	Wanted   int `json:"wanted"`
	Unknown  int `json:"unknown,omitempty"`
}

// String is the row for people: 1 of 2.
func (r copiesRow) String() string {
	words := fmt.Sprintf("%d of %d", r.Complete, r.Wanted)
	if r.Unknown > 0 {
		words += fmt.Sprintf(", %d unknown", r.Unknown)
	}
	return words
}

// lookAtCopies lists the configured stores of copies, all at once. One that
// can't be read, or does not answer in time, is not an error: nothing is known of it.
func (st stores) lookAtCopies(ctx context.Context, f catalog.Filter) []copyStore {
	stores := make([]copyStore, len(st.cfg.Copies))
	var all sync.WaitGroup
	for i, c := range st.cfg.Copies {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, copyLookTimeout)
			defer cancel()
			stores[i] = st.lookAtCopy(ctx, c, f)
		})
	}
	all.Wait()
	return stores
}

func (st stores) lookAtCopy(ctx context.Context, target config.Copy, f catalog.Filter) copyStore {
	found := copyStore{Name: target.Name, Store: target.Store}
	c, closed, err := st.openPlace(ctx, target.Place(), target.Access, true)
	if err == nil {
		defer closed()
		found.have, err = c.Presences(ctx, f)
	}
	if err != nil {
		found.Error = words.OneLine(err.Error())
	}
	return found
}

// copiesOf counts in how many stores a backup is whole.
func copiesOf(b *pgmedic.Backup, stores []copyStore) copiesRow {
	row := copiesRow{Complete: 1, Wanted: 1 + len(stores)}
	for _, s := range statesOf(b, stores) {
		switch s.State {
		case catalog.PresenceComplete:
			row.Complete++
		case catalog.PresenceUnknown:
			row.Unknown++
		case catalog.PresencePartial, catalog.PresenceMissing:
		}
	}
	return row
}

// statesOf is how much of a backup is in each store of copies.
func statesOf(b *pgmedic.Backup, stores []copyStore) []copyState {
	states := make([]copyState, 0, len(stores))
	folder := catalog.Folder(b.Server.Name, b.Database.Name, b.ID)
	for _, s := range stores {
		states = append(states, copyState{Name: s.Name, Store: s.Store, State: s.have.Of(folder)})
	}
	return states
}

// copyWords says where the copies of one backup are, for show.
func copyWords(b *pgmedic.Backup, stores []copyStore) string {
	if len(stores) == 0 {
		return ""
	}
	phrase := []string{copiesOf(b, stores).String()}
	for _, s := range statesOf(b, stores) {
		phrase = append(phrase, words.Clean(s.Name)+" "+string(s.State))
	}
	return strings.Join(phrase, "; ")
}

// printUnreadCopies says which stores of copies could not be read.
func (e *env) printUnreadCopies(stores []copyStore) {
	for _, s := range stores {
		if s.Error != "" {
			e.wrapf("%s %s: %s\n", e.paint(e.stdoutTTY).warn("copies unknown:"), words.Clean(s.Name), words.Clean(s.Error))
		}
	}
}

// checkCopies does with each store of copies what a copy will do.
func (cmd *checkCommand) checkCopies(ctx context.Context, l *checklist) {
	for _, target := range cmd.cfg.Copies {
		fail := func(err error) { l.fail("copy", fmt.Errorf("%s: %w", target.Name, err)) }
		c, closed, err := cmd.stores.openToTry(ctx, target.Place(), target.Access)
		if pgmedic.KindOf(err) == pgmedic.KindNotFound {
			tryMissing(l, "copy", target.Name+", ", target.Place(), true)
			continue
		}
		if err != nil {
			fail(err)
			continue
		}
		err = tryStore(ctx, c.Store())
		var have catalog.Presences
		if err == nil {
			have, err = c.Presences(ctx, catalog.Filter{})
		}
		if err == nil {
			cmd.stores.checkLocks(ctx, l, target.Name+", ", c.Store(), target.Place())
			tryLeftovers(ctx, l, "copy", target.Name+", ", c.Store())
		}
		closed()
		if err != nil {
			fail(err)
			continue
		}
		whole := 0
		for _, p := range have {
			if p == catalog.PresenceComplete {
				whole++
			}
		}
		l.ok("copy", "%s, %s: writes, reads, lists, refuses to overwrite, deletes; %s", target.Name, location(c), words.Plural(whole, "backup"))
	}
}
