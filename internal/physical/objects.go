package physical

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/pipe"
)

// objects stores the objects of a backup, and enters them into its manifest.
type objects struct {
	store    store.Store
	seal     seal.Options
	now      func() time.Time
	progress func(pgmedic.Event)

	mu       sync.Mutex // of what several goroutines enter into the manifest, and of progress
	manifest *pgmedic.Backup
}

// storeKeys makes the backup's key and stores it wrapped, before anything is sealed with
// it.
func (r *run) storeKeys(ctx context.Context) error {
	if r.seal.Encryption != seal.EncryptionAge {
		return nil
	}
	key, err := seal.NewWrapped(r.Wraps, func(name string, wrapped []byte) error {
		return r.Catalog.AddKey(ctx, r.manifest, name, wrapped)
	})
	if err != nil {
		return err
	}
	r.seal.Key = key
	return nil
}

// put runs write and stores what it writes, as it is, under one name. If write fails nothing
// is stored.
func (o *objects) put(ctx context.Context, name string, write func(ctx context.Context, w io.Writer) error) error {
	return pipe.Put(ctx, o.store, catalog.Key(o.manifest, name), name, write)
}

// putSealed runs write and stores what it writes, sealed, as an object of the manifest.
func (o *objects) putSealed(ctx context.Context, name string, role pgmedic.ObjectRole, write func(ctx context.Context, w io.Writer) error) error {
	object := pgmedic.Object{Name: name + seal.Suffix(o.seal), Role: role}
	err := o.put(ctx, object.Name, func(ctx context.Context, dst io.Writer) error {
		w, err := seal.NewWriter(dst, o.seal)
		if err != nil {
			return err
		}
		if err := write(ctx, w); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		sum, err := w.Sum()
		object.StoredBytes, object.SHA256, object.PlainBytes = sum.StoredBytes, sum.SHA256, sum.PlainBytes
		return err
	})
	if err == nil {
		o.record(object)
	}
	return err
}

// putText stores a text as it is, as an object of the manifest.
func (o *objects) putText(ctx context.Context, name, text string) error {
	err := o.put(ctx, name, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(text))
	o.record(pgmedic.Object{
		Name: name, Role: pgmedic.RoleRecovery, SHA256: hex.EncodeToString(sum[:]), StoredBytes: int64(len(text)), PlainBytes: int64(len(text)),
	})
	return nil
}

// record enters a stored object into the manifest.
func (o *objects) record(object pgmedic.Object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.manifest.Objects = append(o.manifest.Objects, object)
}

// step measures one part of the run and records how long it took.
func (o *objects) step(name string, do func() error) error {
	took, err := progress.Step{Name: name, Report: o.report, Now: o.now}.Do(do)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.manifest.Steps = append(o.manifest.Steps, took)
	return err
}

func (o *objects) report(e pgmedic.Event) {
	if o.progress != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.progress(e)
	}
}
