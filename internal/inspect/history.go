package inspect

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/history"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// SinceDefault is how far back trends go and findings look, whatever trends
	// are asked for: the same hours of a week.
	SinceDefault = 7 * 24 * time.Hour
	// othersSince is how far back the server's other databases are compared.
	othersSince = 25 * time.Hour
)

// Since is where trends begin: at a moment, or so long before the reading.
type Since struct {
	At  time.Time
	Ago time.Duration
}

// before is the moment for a reading taken at another.
func (s Since) before(taken time.Time) time.Time {
	if s.At.IsZero() {
		return taken.Add(-s.Ago)
	}
	return s.At
}

// History says what earlier readings are compared with.
type History struct {
	// Path is the file.
	Path string
	// Node names the server by how it is reached.
	Node string
	// Input is true for a reading from a file, which is not kept.
	Input bool
	// Since is where trends begin.
	Since Since
	// UnusedIndexAge is for how long an index must have been unused for a finding.
	UnusedIndexAge time.Duration
	Now            func() time.Time
	Logger         *slog.Logger
}

// Earlier are the readings that the history has.
type Earlier struct {
	// Judged is what findings rest on.
	Judged []*reading.Reading
	// Shown is what trends are asked for.
	Shown []*reading.Reading
}

// Remember returns the earlier readings that the history has of what was looked
// at, and keeps this one. Whatever is wrong with the history is listed as
// skipped: no report fails for it. The error is an interrupt.
func (h History) Remember(ctx context.Context, r *reading.Reading) (Earlier, error) {
	earlier, problems := h.use(ctx, r)
	if ctx.Err() != nil {
		return Earlier{}, context.Cause(ctx)
	}
	for _, p := range problems {
		h.skip(r, p)
	}
	return earlier, nil
}

// Skip lists the history as one that can't be used.
func (h History) Skip(r *reading.Reading, why error) { h.skip(r, words.OneLine(why.Error())) }

func (h History) skip(r *reading.Reading, why string) {
	h.Logger.Warn("the history of reports can't be used", "reason", why)
	r.Skipped = append(r.Skipped, reading.Skipped{Section: reading.SectionTrends, Query: "history", Reason: why})
}

// use reads from the history and adds to it.
func (h History) use(ctx context.Context, r *reading.Reading) (earlier Earlier, problems []string) {
	// A reading of some sections would look like one of a server without the others.
	readOnly := h.Input || r.Sections != nil
	problem := func(err error) {
		if err != nil {
			problems = append(problems, words.OneLine(err.Error()))
		}
	}
	kept, err := history.Open(ctx, history.Options{Path: h.Path, ReadOnly: readOnly, Now: h.Now})
	if errors.Is(err, fs.ErrNotExist) && readOnly {
		return earlier, nil
	}
	if err != nil {
		problem(err)
		return earlier, problems
	}
	earlier, err = h.recall(ctx, kept, r)
	problem(err)
	switch {
	case readOnly:
	case r.Literals:
		problems = append(problems, "a reading with literals is not kept")
	default:
		problem(kept.Add(ctx, h.Node, r))
	}
	problems = append(problems, kept.Notices()...)
	problem(kept.Close())
	return earlier, problems
}

// recall reads from the history what a reading is compared with.
func (h History) recall(ctx context.Context, kept *history.History, r *reading.Reading) (earlier Earlier, err error) {
	if earlier.Judged, err = h.recallDatabase(ctx, kept, history.KeyOf(h.Node, r), r.TakenAt, SinceDefault); err != nil {
		return earlier, err
	}
	earlier.Shown = earlier.Judged
	if h.Since.Ago != SinceDefault {
		if earlier.Shown, err = kept.Earlier(ctx, history.KeyOf(h.Node, r), h.Since.before(r.TakenAt), r.TakenAt); err != nil {
			return earlier, err
		}
	}
	for _, other := range r.Databases {
		more, err := h.recallDatabase(ctx, kept, history.KeyOf(h.Node, other), other.TakenAt, othersSince)
		if err != nil {
			return earlier, err
		}
		earlier.Judged = append(earlier.Judged, more...)
	}
	return earlier, nil
}

// recallDatabase reads what the findings about one database rest on: what was
// read for some time before, and what tells that an index has long been unused.
func (h History) recallDatabase(ctx context.Context, kept *history.History, key history.Key, now time.Time, ago time.Duration) ([]*reading.Reading, error) {
	earlier, err := kept.Earlier(ctx, key, now.Add(-ago), now)
	if err != nil {
		return nil, err
	}
	old, err := kept.Newest(ctx, key, now.Add(-max(ago, h.UnusedIndexAge)))
	if err != nil || old == nil {
		return earlier, err
	}
	return append(earlier, old), nil
}
