package drill

import (
	"context"

	"github.com/pgmedic/pgmedic/internal/amcheck"
)

// amcheck lets PostgreSQL's own checker read every index and heap of the copy.
func (r *rehearsal) amcheck(ctx context.Context) error {
	if r.SkipAmcheck != "" {
		r.receipt.Checks = append(r.receipt.Checks, amcheck.Skipped(r.SkipAmcheck).Checks...)
		return nil
	}
	// The copy goes, and the extension with it.
	done, err := r.checker().Check(ctx, false)
	r.receipt.Checks = append(r.receipt.Checks, done.Checks...)
	r.receipt.Counted.Indexes, r.receipt.Counted.Heaps = done.Indexes, done.Heaps
	return err
}

// checker checks the copy.
func (r *rehearsal) checker() *amcheck.Checker {
	return amcheck.New(amcheck.Options{
		Target: r.place.copied(), Jobs: r.Jobs, Superuser: r.place.superuser, Host: "the scratch server's host",
		Refused: r.refusedFor, SortsOtherwise: r.sortsOtherwise, Progress: r.Progress,
	})
}

// visibility holds the visibility maps of the copy against its rows.
func (m *moment) visibility(ctx context.Context) error {
	if m.SkipAmcheck != "" {
		m.receipt.Checks = append(m.receipt.Checks, amcheck.SkippedVisibility(m.SkipAmcheck).Checks...)
		return nil
	}
	done, err := m.checker().Visibility(ctx)
	m.receipt.Checks = append(m.receipt.Checks, done.Checks...)
	return err
}
