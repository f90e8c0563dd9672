// Package drill proves backups: Verify reads every stored byte back, Run
// restores a backup into a throwaway server and holds the copy against what was
// recorded. Both write a receipt beside the backup.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// VerifyOptions say what is verified. Required: Catalog, Backup, Now.
type VerifyOptions struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	// Key opens the backup where it is encrypted. Without it the stored bytes
	// are compared with their hashes and the proof is ProofIntact.
	Key *seal.Key
	// Host and Version go into the receipt.
	Host, Version string
	Progress      func(pgmedic.Event)
	Now           func() time.Time
}

// Verify reads every object of a backup from the store, compares sizes and
// hashes, decompresses, counts the rows in the dump, and stores a receipt.
//
// Damage is a failed receipt and a nil error. An error means that the backup
// could not be read or the receipt not be stored (KindDegraded, with the
// receipt returned): neither says anything about the backup.
func Verify(ctx context.Context, o VerifyOptions) (*pgmedic.Receipt, error) {
	began := o.Now()
	receipt := &pgmedic.Receipt{
		Format: pgmedic.ReceiptFormat, Kind: pgmedic.ReceiptVerify, BackupID: o.Backup.ID,
		Host: o.Host, Programs: pgmedic.Programs{Pgmedic: o.Version},
	}
	meter := pgmedic.NewMeter(pgmedic.MeterOptions{Step: "read", TotalBytes: o.expected(), Report: o.Progress, Now: o.Now})
	reached := pgmedic.ProofVerified
	sealed := o.Backup.Seal.Encryption != string(seal.EncryptionNone) && o.Key == nil
	if sealed {
		reached = pgmedic.ProofIntact
	}
	for _, object := range o.Backup.Objects {
		verify := verifyObject
		switch {
		case sealed, object.Role == pgmedic.RoleRecovery:
			verify = verifyStored
		case object.Role == pgmedic.RolePack:
			verify = verifyPack
		}
		checks, err := verify(ctx, o, object, meter)
		if err != nil {
			return nil, fmt.Errorf("verify backup %s: %w", o.Backup.ID, err)
		}
		receipt.Checks = append(receipt.Checks, checks...)
	}
	receipt.Steps = []pgmedic.Step{{Name: "read", Seconds: seconds(o.Now().Sub(began))}}
	if o.Progress != nil {
		o.Progress(pgmedic.Event{Step: "read", Finished: true})
	}
	return store(ctx, o.Catalog, o.Backup, receipt, reached, o.Now())
}

// store sets the receipt's outcome and stores it.
func store(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, r *pgmedic.Receipt, reached pgmedic.Proof, now time.Time) (*pgmedic.Receipt, error) {
	r.At, r.Outcome, r.Proof = now.UTC(), pgmedic.OutcomeOK, reached
	if _, failed := r.Failed(); failed {
		r.Outcome, r.Proof = pgmedic.OutcomeFailed, pgmedic.ProofFailed
	}
	if err := c.AddReceipt(ctx, b, r); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return r, pgmedic.Errorf(pgmedic.KindDegraded, "the proof is not recorded; make the store writable for this host",
			"backup %s: %w", b.ID, err)
	}
	return r, nil
}

// verifyObject reads one object to its end. Damage is a failed check; an error
// means that it could not be read.
func verifyObject(ctx context.Context, o VerifyOptions, object pgmedic.Object, m *pgmedic.Meter) ([]pgmedic.Check, error) {
	check := pgmedic.Check{Name: object.Name, Outcome: pgmedic.OutcomeOK}
	var counter pgtool.RowCounter
	dst := io.Writer(m)
	if object.Role == pgmedic.RoleDump {
		dst = io.MultiWriter(m, &counter)
	}
	m.Object(object.Name)
	r, err := o.source().Open(ctx, object)
	if err == nil {
		_, err = copyContext(ctx, dst, r)
		err = errors.Join(err, r.Close())
	}
	switch {
	case err != nil && pgmedic.KindOf(err) == pgmedic.KindIntegrity:
		check.Outcome, check.Detail = pgmedic.OutcomeFailed, err.Error()
		return []pgmedic.Check{check}, nil
	case err != nil:
		return nil, err
	}
	check.Detail = fmt.Sprintf("%d bytes, sha256 %s", object.StoredBytes, object.SHA256)
	if object.Role != pgmedic.RoleDump {
		return []pgmedic.Check{check}, nil
	}
	return []pgmedic.Check{check, countedRows(o.Backup, &counter)}, nil
}

func (o VerifyOptions) source() restore.Source {
	return restore.Source{Catalog: o.Catalog, Backup: o.Backup, Key: o.Key}
}

// verifyStored compares an object's bytes as they are stored with its hash: all
// that a host without a key can do.
func verifyStored(ctx context.Context, o VerifyOptions, object pgmedic.Object, m *pgmedic.Meter) ([]pgmedic.Check, error) {
	check := pgmedic.Check{Name: object.Name, Outcome: pgmedic.OutcomeOK}
	m.Object(object.Name)
	r, err := o.source().OpenStored(ctx, object)
	if err == nil {
		err = seal.CheckStored(readerFunc(func(p []byte) (int, error) {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			n, err := r.Read(p)
			_, _ = m.Write(p[:n]) // never fails
			return n, err
		}), restore.SumOf(object))
		err = errors.Join(err, r.Close())
	}
	switch {
	case err != nil && pgmedic.KindOf(err) == pgmedic.KindIntegrity:
		check.Outcome, check.Detail = pgmedic.OutcomeFailed, err.Error()
	case err != nil:
		return nil, err
	default:
		check.Detail = fmt.Sprintf("%d bytes, sha256 %s", object.StoredBytes, object.SHA256)
	}
	return []pgmedic.Check{check}, nil
}

// verifyPack reads every chunk of a pack and counts its rows.
func verifyPack(ctx context.Context, o VerifyOptions, object pgmedic.Object, m *pgmedic.Meter) ([]pgmedic.Check, error) {
	check := pgmedic.Check{Name: object.Name, Outcome: pgmedic.OutcomeOK}
	m.Object(object.Name)
	chunks, rows := 0, int64(0)
	for _, c := range o.Backup.Chunks {
		if c.Pack != object.Name {
			continue
		}
		if err := verifyChunk(ctx, o, c, m); err != nil {
			if pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				return nil, err
			}
			check.Outcome, check.Detail = pgmedic.OutcomeFailed, err.Error()
			return []pgmedic.Check{check}, nil
		}
		chunks++
		rows += c.Rows
	}
	// What no chunk points to is part of what was stored, too.
	whole, err := verifyStored(ctx, o, object, pgmedic.NewMeter(pgmedic.MeterOptions{}))
	if err != nil || whole[0].Outcome == pgmedic.OutcomeFailed {
		return whole, err
	}
	check.Detail = fmt.Sprintf("%d bytes, %d rows in %d chunks", object.StoredBytes, rows, chunks)
	return []pgmedic.Check{check}, nil
}

func verifyChunk(ctx context.Context, o VerifyOptions, c pgmedic.Chunk, m *pgmedic.Meter) error {
	if c.Table < 0 || c.Table >= len(o.Backup.Tables) {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "", "a chunk of %s belongs to no table", c.Pack)
	}
	t := o.Backup.Tables[c.Table]
	r, err := o.source().OpenChunk(ctx, c)
	if err != nil {
		return err
	}
	counter := &postgres.CopyCounter{Format: t.Format}
	_, err = copyContext(ctx, io.MultiWriter(m, counter), r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if counter.Rows() != c.Rows || !counter.Complete() {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "", "a chunk of %s holds %d rows, the manifest says %d",
			pgmedic.QuoteQualified(t.Schema, t.Name), counter.Rows(), c.Rows)
	}
	return nil
}

// countedRows compares the rows in a dump with those that the manifest says it
// holds.
func countedRows(b *pgmedic.Backup, counter *pgtool.RowCounter) pgmedic.Check {
	check := pgmedic.Check{Name: "row counts", Outcome: pgmedic.OutcomeOK}
	want, have := b.Rows(), int64(0)
	for _, n := range counter.Counts() {
		have += n
	}
	check.Detail = fmt.Sprintf("%d rows in %d tables", have, len(b.Tables))
	if have != want || !counter.Complete() {
		check.Outcome = pgmedic.OutcomeFailed
		check.Detail = fmt.Sprintf("the dump holds %d rows, the manifest says %d", have, want)
		return check
	}
	for _, t := range b.Tables {
		name := pgmedic.QuoteQualified(t.Schema, t.Name)
		if got, ok := counter.Counts()[name]; ok && t.RootName == "" && got != t.Rows {
			check.Outcome = pgmedic.OutcomeFailed
			check.Detail = fmt.Sprintf("%s has %d rows in the dump, %d in the manifest", name, got, t.Rows)
			return check
		}
	}
	return check
}

// expected is how many bytes pass: those that were sealed, and without a key
// those that are stored.
func (o VerifyOptions) expected() (n int64) {
	for _, object := range o.Backup.Objects {
		switch {
		case o.Backup.Seal.Encryption != string(seal.EncryptionNone) && o.Key == nil, object.Role == pgmedic.RoleRecovery:
			n += object.StoredBytes
		default:
			n += object.PlainBytes
		}
	}
	return n
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// copyContext is io.Copy that stops soon after ctx ends.
func copyContext(ctx context.Context, dst io.Writer, src io.Reader) (int64, error) {
	n, err := io.Copy(dst, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return src.Read(p)
	}))
	return n, err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// discard is a logger for those who gave none.
func discard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
