package restore

import (
	"context"
	"errors"
	"slices"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Retried is what came of a second try of what the server refused.
type Retried struct {
	// Made went in now, with the reason for which it was refused before; extensions
	// come first. Refused stays refused, with the reason of the last try.
	Made, Refused []Refusal
}

// Again tries once more what the server refused of a copy that Load made, in the
// database that is now called o.Into: the name may be what an extension waited for.
// Others may use the database by now: nothing is searched for where they could have
// put something. Tables whose rows came in are analyzed.
//
// It is called with what Load returned. An error means that not all of it was tried,
// or not analyzed; what had come by then is returned with it, or nil where nothing is
// known.
func Again(ctx context.Context, o Options, loaded *Loaded) (*Retried, error) {
	if loaded.loader == nil {
		return nil, errors.New("restore: Again needs what Load returned")
	}
	s, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close(ctx)
	s.loader, s.live = loaded.loader, true
	if err := s.loader.Again(ctx, s); err != nil {
		return nil, err
	}
	r := &Retried{Refused: s.refusals()}
	r.Made = made(loaded.Refused, r.Refused)
	return r, s.analyzeMade(ctx, r.Made)
}

// made lists what was refused before and is not any more.
func made(before, still []Refusal) (objects []Refusal) {
	objects = slices.DeleteFunc(slices.Clone(before), func(b Refusal) bool {
		return slices.ContainsFunc(still, func(s Refusal) bool { return s.Object == b.Object })
	})
	slices.SortStableFunc(objects, func(a, b Refusal) int { return boolInt(b.Extension) - boolInt(a.Extension) })
	return objects
}

// analyzeMade gathers statistics of the tables whose rows came in. pg_cron's worker
// sees by it, too, that its jobs are there: the trigger that tells it did not fire.
func (s *Session) analyzeMade(ctx context.Context, objects []Refusal) error {
	// Its commits reach the disk, and with them all that was written before.
	conn, err := postgres.ConnectLocal(ctx, s.Database)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for _, m := range objects {
		if m.Entry.Type != "TABLE DATA" {
			continue
		}
		t := analyzed{schema: m.Entry.Schema, name: sqltext.QuoteQualified(m.Entry.Schema, m.Entry.Name)}
		if err := s.analyzeOne(ctx, conn, t); err != nil {
			return err
		}
	}
	return nil
}
