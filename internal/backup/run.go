package backup

import (
	"context"
	"encoding/json"
	"errors"
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
)

// Run is a backup being taken, as a Method sees it.
type Run struct {
	Options
	// Manifest is filled as the run goes on and committed at its end.
	Manifest *pgmedic.Backup

	conn *pgx.Conn
	sums *sums
	mu   sync.Mutex // of what several goroutines enter into the manifest, of Progress, and of what follows
	// sessions are open now, and most were at once.
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(ctx, pw)
		// A nil error is the end of the object; any other makes Put abandon it.
		_ = pw.CloseWithError(err) // never fails
		written <- err
	}()
	_, putErr := r.Catalog.Store().Put(ctx, catalog.Key(r.Manifest, name), pr)
	if putErr != nil {
		cancel() // a Put that failed reads no more: let the writer go
	}
	_ = pr.CloseWithError(errStoreGone) // never fails
	writeErr := <-written
	switch {
	case putErr == nil && writeErr != nil, putErr != nil && errors.Is(putErr, writeErr):
		return writeErr
	case putErr != nil:
		return fmt.Errorf("store %s: %w", name, putErr)
	}
	return nil
}

// errStoreGone tells a writer that nobody reads any more.
var errStoreGone = errors.New("the store stopped taking bytes")

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

// readInventory reads in the snapshot, or the copy would be held against objects
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
	// that waits for the snapshot's: nobody would see that deadlock.
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
