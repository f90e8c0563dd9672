package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store/pipe"
)

// Run is a backup being taken, as a Method sees it.
type Run struct {
	Options
	// Manifest is filled as the run goes on and committed at its end.
	Manifest *pgmedic.Backup

	conn *pgx.Conn
	sums *sums
	mu   sync.Mutex // of what several goroutines enter into the manifest, of Progress, and of what follows
	// sessions is how many are open now, and most how many ever were at once.
	sessions, most int
	// snapshot is the exported snapshot, and heldSince when it was taken.
	snapshot  string
	heldSince time.Time
}

// StoreOptions say what an object is.
type StoreOptions struct {
	// Name is the object's name before the seal's suffix is added.
	Name string
	Role pgmedic.ObjectRole
}

// Store runs write and stores what it writes, sealed, as one object, which it
// records in the manifest. The bytes are streamed: neither side runs ahead of
// the other by more than a buffer. If write fails nothing is stored.
func (r *Run) Store(ctx context.Context, o StoreOptions, write func(ctx context.Context, w io.Writer) error) error {
	object := pgmedic.Object{Name: o.Name + seal.Suffix(r.Seal), Role: o.Role}
	var sum seal.Sum
	err := r.put(ctx, object.Name, func(ctx context.Context, dst io.Writer) (err error) {
		sum, err = r.seal(ctx, dst, write)
		return err
	})
	if err != nil {
		return err
	}
	object.StoredBytes, object.SHA256, object.PlainBytes, object.HMAC = sum.StoredBytes, sum.SHA256, sum.PlainBytes, sum.HMAC
	r.record(object)
	return nil
}

// record enters a stored object into the manifest.
func (r *Run) record(object pgmedic.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Manifest.Objects = append(r.Manifest.Objects, object)
}

// put runs write and stores what it writes, as it is, under one name.
func (r *Run) put(ctx context.Context, name string, write func(ctx context.Context, w io.Writer) error) error {
	return pipe.Put(ctx, r.Catalog.Store(), catalog.Key(r.Manifest, name), name, write)
}

func (r *Run) seal(ctx context.Context, dst io.Writer, write func(context.Context, io.Writer) error) (seal.Sum, error) {
	w, err := seal.NewWriter(dst, r.Seal)
	if err != nil {
		return seal.Sum{}, err
	}
	if err := write(ctx, w); err != nil {
		return seal.Sum{}, err
	}
	if err := w.Close(); err != nil {
		return seal.Sum{}, err
	}
	return w.Sum()
}

// Step measures one part of the run and records how long it took.
func (r *Run) Step(name string, do func() error) error {
	took, err := progress.Step{Name: name, Report: r.report, Now: r.Now}.Do(do)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Manifest.Steps = append(r.Manifest.Steps, took)
	return err
}

func (r *Run) report(e pgmedic.Event) {
	if r.Progress != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Progress(e)
	}
}

// storeInventory stores the list of the database's objects, by which a drill
// compares its copy.
func (r *Run) storeInventory(ctx context.Context, without snapshot.LeftOut) error {
	inventory, err := r.readInventory(ctx, without)
	if err != nil {
		return err
	}
	return r.Store(ctx, StoreOptions{Name: "inventory.json", Role: pgmedic.RoleInventory},
		func(_ context.Context, w io.Writer) error {
			if err := json.NewEncoder(w).Encode(inventory); err != nil {
				return fmt.Errorf("write the inventory: %w", err)
			}
			return nil
		})
}

// readInventory reads in the snapshot: otherwise the copy would be compared with objects
// that came later. It uses a session of its own: an object dropped while its
// definition is being printed is an error that would end the snapshot's own
// transaction.
func (r *Run) readInventory(ctx context.Context, without snapshot.LeftOut) (*snapshot.Inventory, error) {
	conn, err := postgres.Connect(ctx, r.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	defer r.session()()
	// To print a view's definition takes locks, which queue behind a migration
	// that waits for the snapshot's: the server can't see that deadlock.
	if err := snapshot.SetLockTimeout(ctx, conn, r.LockTimeout); err != nil {
		return nil, err
	}
	const tries = 3
	for try := 1; ; try++ {
		inventory, err := snapshot.ReadInventoryIn(ctx, conn, r.snapshot, r.Manifest.Server.VersionNum, without)
		if err == nil || try == tries || postgres.Code(err) != "XX000" {
			return inventory, err
		}
	}
}
