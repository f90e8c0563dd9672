// Package lease keeps what a recovery reads from being deleted meanwhile, on whichever host:
// base backups, and ranges of WAL. A lease is an object beside the WAL of a cluster that
// counts for some time, and is renewed as long as it is needed. One of a run that was killed
// ends by itself.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// The lengths of leases are our choice.
const (
	// Running is how long one counts that a process renews while it runs, and RunningEvery how
	// often it does.
	Running      = 2 * time.Hour
	RunningEvery = 30 * time.Minute
	// Recovering is how long one counts that each run of a restore_command may renew, and
	// RecoveringEvery how old it is then: PostgreSQL may replay for a while without asking for
	// WAL, and may be stopped for a night.
	Recovering      = 24 * time.Hour
	RecoveringEvery = time.Hour
	// Margin is for how much longer a lease counts, because clocks differ: no prune deletes
	// where the store's clock is more than 5 minutes from its own.
	Margin = 10 * time.Minute
	// longest is for how long any lease counts, whatever it says.
	longest = 48 * time.Hour
)

const (
	format = 1
	prefix = "lease-"
	suffix = ".json"
	// maxBytes is what a lease may have, and maxLeases how many are read of a cluster.
	maxBytes  = 1 << 20
	maxLeases = 1000
)

// Lease says what is read, and by whom.
type Lease struct {
	Format int    `json:"format"`
	By     string `json:"by"`
	Host   string `json:"host"`
	// Purpose is what reads: drill, restore, recovery or (incremental) backup.
	Purpose string `json:"purpose"`
	// Backups are the ids of base backups, and Spans WAL.
	Backups []string   `json:"backups"`
	Spans   []wal.Span `json:"spans"`
	// Seconds is how long the lease counts since it was stored, by the store's clock: that of
	// the host that took it does not matter.
	Seconds int64 `json:"seconds"`

	key      string
	storedAt time.Time
	// odd is true where it can't be read: then it is of everything.
	odd bool
}

// Until is when the lease ends, without the margin.
func (l Lease) Until() time.Time {
	length := longest
	if !l.odd && l.Seconds < int64(longest/time.Second) {
		length = time.Duration(max(l.Seconds, 0)) * time.Second
	}
	return l.storedAt.Add(length)
}

// Holds reports whether the lease counts.
func (l Lease) Holds(now time.Time) bool { return now.Before(l.Until().Add(Margin)) }

// OfBackup reports whether a base backup is read.
func (l Lease) OfBackup(id string) bool { return l.odd || slices.Contains(l.Backups, id) }

// OfWAL reports whether WAL of a timeline is read, or a part of it.
func (l Lease) OfWAL(t wal.Timeline, from, to wal.LSN) bool {
	return l.odd || slices.ContainsFunc(l.Spans, func(s wal.Span) bool { return s.Timeline == t && s.From < to && from < s.To })
}

// Why says who reads what the lease is of.
func (l Lease) Why() string {
	until := ", until " + l.Until().UTC().Format("2006-01-02 15:04Z") + " unless it is renewed"
	if l.odd {
		return "a lease that can't be read may be of it (" + l.key + ")" + until
	}
	return fmt.Sprintf("a %s by %s on %s reads it%s", l.Purpose, l.By, l.Host, until)
}

// Read returns the leases of a cluster that count. One that can't be read, such as one of a
// newer version, is of everything.
func Read(ctx context.Context, a *archive.Archive, now time.Time) (all []Lease, err error) {
	err = each(ctx, a, func(l Lease) error {
		if l.Holds(now) {
			all = append(all, l)
		}
		return nil
	})
	return all, err
}

// Sweep deletes the leases of a cluster that have ended. What can't be deleted, such as what
// the store locks, is left: it counts for nothing.
func Sweep(ctx context.Context, a *archive.Archive, now time.Time) error {
	return each(ctx, a, func(l Lease) error {
		if !l.Holds(now) {
			_ = a.Store().Delete(ctx, l.key)
		}
		return context.Cause(ctx)
	})
}

func each(ctx context.Context, a *archive.Archive, do func(Lease) error) error {
	n := 0
	for object, err := range a.Store().List(ctx, a.Folder()+prefix) {
		if err != nil {
			return fmt.Errorf("list the leases of WAL: %w", err)
		}
		if !strings.HasSuffix(object.Key, suffix) {
			continue
		}
		l := Lease{key: object.Key, storedAt: object.ModifiedAt, odd: true}
		if n++; n <= maxLeases && object.SizeBytes <= maxBytes {
			l, err = read(ctx, a.Store(), object)
			if errors.Is(err, store.ErrNotFound) { // released, or renewed a while ago
				continue
			} else if err != nil {
				return fmt.Errorf("read a lease of WAL: %w", err)
			}
		}
		if err := do(l); err != nil {
			return err
		}
	}
	return nil
}

func read(ctx context.Context, s store.Store, object store.Object) (l Lease, err error) {
	r, err := s.Open(ctx, object.Key, 0, maxBytes)
	if err != nil {
		return l, err
	}
	text, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return l, err
	}
	if json.Unmarshal(text, &l) != nil || l.Format != format {
		l = Lease{odd: true}
	}
	l.key, l.storedAt = object.Key, object.ModifiedAt
	return l, nil
}
