// Package drill proves backups: Verify reads every stored byte back, Run
// restores a backup into a throwaway server and compares the copy with what was
// recorded, and RunMoment recovers a cluster to a moment and checks it. Each writes a
// receipt beside the backup.
package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// VerifyOptions say what is verified. Required: Catalog, Backup, Now.
type VerifyOptions struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	// Key opens the backup where it is encrypted. Without it the stored bytes
	// are compared with their hashes and the proof is ProofIntact.
	Key *seal.Key
	// Sample selects the objects to read; nil is all of them.
	Sample *SamplePart
	// Jobs is how many objects are read at once, 8 at most. Zero is one for each
	// processor.
	Jobs int
	// Host and Version go into the receipt.
	Host, Version string
	Progress      func(pgmedic.Event)
	Now           func() time.Time
}

// Verify reads every object of a backup from the store, or those of a sample,
// compares sizes and hashes, decompresses, counts the rows in the dump, and
// stores a receipt. Several objects are read at once.
//
// Damage is a failed receipt and a nil error. An error means that the backup
// could not be read or the receipt not be stored (KindDegraded, with the
// receipt returned): neither says anything about the backup.
func Verify(ctx context.Context, o VerifyOptions) (*pgmedic.Receipt, error) {
	if err := o.Backup.Check(); err != nil {
		return nil, fmt.Errorf("verify backup %s: %w", o.Backup.ID, err)
	}
	began := o.Now()
	receipt := &pgmedic.Receipt{
		Format: pgmedic.ReceiptFormat, Kind: pgmedic.ReceiptVerify, BackupID: o.Backup.ID,
		Host: o.Host, Programs: pgmedic.Programs{Pgmedic: o.Version},
	}
	objects, reached := o.Backup.Objects, degree(o.Backup, o.Key != nil)
	if o.Sample != nil {
		objects = o.sampled()
		receipt.Sample = o.Sample.record(o.Backup, reached)
	}
	keys, err := o.keysCheck(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify backup %s: %w", o.Backup.ID, err)
	}
	receipt.Checks = keys
	checks, err := o.readAll(ctx, objects, reached == pgmedic.ProofIntact)
	if err != nil {
		return nil, fmt.Errorf("verify backup %s: %w", o.Backup.ID, err)
	}
	receipt.Checks = append(receipt.Checks, checks...)
	receipt.Steps = []pgmedic.Step{{Name: "read", Seconds: progress.Seconds(o.Now().Sub(began))}}
	if o.Sample != nil {
		reached = pgmedic.ProofTaken // some objects prove nothing of a backup
	}
	return record{Catalog: o.Catalog, Backup: o.Backup, Key: o.Key, Receipt: receipt, Reached: reached, Now: o.Now()}.store(ctx)
}

// sampled are the objects of the sample as the manifest has them: a listing does not
// have all of an object's facts.
func (o VerifyOptions) sampled() []pgmedic.Object {
	var objects []pgmedic.Object
	for _, object := range o.Backup.Objects {
		if slices.ContainsFunc(o.Sample.Objects, func(s pgmedic.Object) bool { return s.Name == object.Name }) {
			objects = append(objects, object)
		}
	}
	return objects
}

// degree is the proof that reading a whole backup reaches, with a key or without.
func degree(b *pgmedic.Backup, key bool) pgmedic.Proof {
	if b.Seal.Encryption != string(seal.EncryptionNone) && !key {
		return pgmedic.ProofIntact
	}
	return pgmedic.ProofVerified
}

// maxVerifyJobs bounds what is held in memory, some 10 MiB for each.
const maxVerifyJobs = 8

// readAll reads objects, several at once, and returns their checks in the order
// of the objects.
func (o VerifyOptions) readAll(ctx context.Context, objects []pgmedic.Object, sealed bool) ([]pgmedic.Check, error) {
	total := int64(0)
	for _, object := range objects {
		total += bytesToRead(object, sealed)
	}
	var first []pgmedic.Check
	var packs map[string][]physical.Chunk
	if o.Backup.Physical != nil && !sealed {
		var err error
		if packs, first, err = o.physicalChunks(ctx); err != nil {
			return nil, err
		}
	}
	m := progress.NewMeter(progress.MeterOptions{Step: "read", TotalBytes: total, Report: o.Progress, Now: o.Now})
	checks := make([][]pgmedic.Check, len(objects))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(postgres.Jobs(o.Jobs), maxVerifyJobs))
	for i, object := range objects {
		verify := verifyObject
		switch {
		case sealed, object.Role == pgmedic.RoleRecovery:
			verify = verifyStored
		case object.Role == pgmedic.RolePack && packs != nil:
			verify = func(ctx context.Context, o VerifyOptions, object pgmedic.Object, m io.Writer) ([]pgmedic.Check, error) {
				return verifyPhysicalPack(ctx, o, object, packs[object.Name], m)
			}
		case object.Role == pgmedic.RolePack:
			verify = verifyPack
		}
		group.Go(func() (err error) {
			m.Object(object.Name)
			checks[i], err = verify(groupCtx, o, object, m)
			return err
		})
	}
	err := group.Wait()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if o.Progress != nil {
		o.Progress(pgmedic.Event{Step: "read", Finished: err == nil, Failed: err != nil})
	}
	return append(first, slices.Concat(checks...)...), err
}

// bytesToRead is what the meter will count for an object.
func bytesToRead(o pgmedic.Object, sealed bool) int64 {
	if sealed || o.Role == pgmedic.RoleRecovery {
		return o.StoredBytes
	}
	return o.PlainBytes
}

// keysCheck checks whether a backup that has a key of its own can still be opened. It needs no key: a wrap's header shows what it is.
func (o VerifyOptions) keysCheck(ctx context.Context) ([]pgmedic.Check, error) {
	if o.Backup.Seal.Encryption != string(seal.EncryptionAge) {
		return nil, nil
	}
	wraps, err := o.Catalog.Keys(ctx, o.Backup)
	if err != nil {
		return nil, err
	}
	ways := 0
	for _, w := range wraps {
		if seal.KindOfWrap(w.Data) != seal.WrapUnknown {
			ways++
		}
	}
	check := pgmedic.Check{Name: "keys", Outcome: pgmedic.OutcomeOK, Detail: words.Plural(ways, "way") + " to open it"}
	if ways == 1 {
		check.Detail = "1 way to open it"
	}
	if ways == 0 {
		check.Outcome, check.Detail = pgmedic.OutcomeFailed, "no key that opens it is left in the store: this backup can no longer be read"
		check.Hint = "if a copy has its keys, run pgmedic copy from there; else take a new backup"
	}
	return []pgmedic.Check{check}, nil
}

// record is a receipt that is to be stored.
type record struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	// Key authenticates the receipt; nil where this host has none.
	Key     *seal.Key
	Receipt *pgmedic.Receipt
	// Reached is the proof, if no check failed.
	Reached pgmedic.Proof
	Now     time.Time
}

// store sets the receipt's outcome and stores it.
func (o record) store(ctx context.Context) (*pgmedic.Receipt, error) {
	r := o.Receipt
	r.At, r.Outcome, r.Proof, r.Store = o.Now.UTC(), pgmedic.OutcomeOK, o.Reached, fmt.Sprint(o.Catalog.Store())
	if _, failed := r.Failed(); failed {
		r.Outcome, r.Proof = pgmedic.OutcomeFailed, pgmedic.ProofFailed
	}
	if err := AddReceipt(ctx, o.Catalog, o.Backup, o.Key, r); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return r, pgmedic.Errorf(pgmedic.KindDegraded, "the proof is not recorded; make the store writable for this host",
			"backup %s: %w", o.Backup.ID, err)
	}
	return r, nil
}

// AddReceipt stores a receipt, authenticated with the backup's key if there is one.
func AddReceipt(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, key *seal.Key, r *pgmedic.Receipt) error {
	if key == nil {
		return c.AddReceipt(ctx, b, r, nil)
	}
	mac, err := key.ReceiptMAC(b.ID)
	if err != nil {
		return err
	}
	return c.AddReceipt(ctx, b, r, mac.Sum)
}

// verifyObject reads one object to its end. Damage is a failed check; an error
// means that it could not be read.
func verifyObject(ctx context.Context, o VerifyOptions, object pgmedic.Object, m io.Writer) ([]pgmedic.Check, error) {
	check := pgmedic.Check{Name: object.Name, Outcome: pgmedic.OutcomeOK}
	var counter dumpsql.RowCounter
	dst := m
	if object.Role == pgmedic.RoleDump {
		dst = io.MultiWriter(m, &counter)
	}
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
	check.Detail = fmt.Sprintf("%s bytes, sha256 %s", pgmedic.Count(object.StoredBytes), object.SHA256)
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
func verifyStored(ctx context.Context, o VerifyOptions, object pgmedic.Object, m io.Writer) ([]pgmedic.Check, error) {
	check := pgmedic.Check{Name: object.Name, Outcome: pgmedic.OutcomeOK}
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
		check.Detail = fmt.Sprintf("%s bytes, sha256 %s", pgmedic.Count(object.StoredBytes), object.SHA256)
	}
	return []pgmedic.Check{check}, nil
}

// verifyPack reads a pack once, from front to end: every chunk in it, of which it
// counts the rows, and what no chunk points to, which was stored as well.
func verifyPack(ctx context.Context, o VerifyOptions, object pgmedic.Object, m io.Writer) ([]pgmedic.Check, error) {
	var chunks []pgmedic.Chunk
	rows := int64(0)
	for _, c := range o.Backup.Chunks {
		if c.Pack == object.Name {
			chunks, rows = append(chunks, c), rows+c.Rows()
		}
	}
	slices.SortFunc(chunks, func(a, b pgmedic.Chunk) int { return cmp.Compare(a.Offset, b.Offset) })
	extents := make([]extent, len(chunks))
	for i, c := range chunks {
		extents[i] = extent{c.Offset, c.StoredBytes}
	}
	err := o.readPack(ctx, object, extents, func(i int, stored io.Reader) error { return o.readChunk(ctx, chunks[i], stored, m) })
	return packCheck(object, words.Plural(rows, "row")+" in "+words.Plural(len(chunks), "chunk"), err)
}

// extent is where in a pack a chunk is.
type extent struct{ offset, length int64 }

// readPack hands over the chunks of a pack by their index, in the order of their offsets, and
// reads what is between and behind them, too.
func (o VerifyOptions) readPack(ctx context.Context, object pgmedic.Object, chunks []extent, read func(i int, stored io.Reader) error) (err error) {
	src, err := o.source().OpenStored(ctx, object)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	stored, err := seal.NewStoredReader(src, restore.SumOf(object))
	if err != nil {
		return err
	}
	at := int64(0)
	for i, c := range chunks {
		if c.offset < at {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "", "chunks of %s overlap", object.Name)
		}
		if _, err := copyContext(ctx, io.Discard, io.LimitReader(stored, c.offset-at)); err != nil {
			return fmt.Errorf("read %s: %w", object.Name, err)
		}
		if err := read(i, io.LimitReader(stored, c.length)); err != nil {
			return err
		}
		at = c.offset + c.length
	}
	if _, err := copyContext(ctx, io.Discard, stored); err != nil {
		return fmt.Errorf("read %s: %w", object.Name, err)
	}
	return nil
}

// packCheck is what came of reading a pack; found says what is in it.
func packCheck(object pgmedic.Object, found string, err error) ([]pgmedic.Check, error) {
	check := pgmedic.Check{Name: object.Name, Outcome: pgmedic.OutcomeOK}
	switch {
	case err != nil && pgmedic.KindOf(err) == pgmedic.KindIntegrity:
		check.Outcome, check.Detail = pgmedic.OutcomeFailed, err.Error()
	case err != nil:
		return nil, err
	default:
		check.Detail = fmt.Sprintf("%s bytes, %s", pgmedic.Count(object.StoredBytes), found)
	}
	return []pgmedic.Check{check}, nil
}

func (o VerifyOptions) readChunk(ctx context.Context, c pgmedic.Chunk, stored io.Reader, m io.Writer) error {
	r, err := o.source().Chunk(c, io.NopCloser(stored))
	if err != nil {
		return err
	}
	counters := make([]*snapshot.CopyCounter, len(c.Parts))
	for i, p := range c.Parts {
		counters[i] = &snapshot.CopyCounter{Format: o.Backup.Tables[p.Table].Format}
		if _, err = copyContext(ctx, io.MultiWriter(m, counters[i]), io.LimitReader(r, p.PlainBytes)); err != nil {
			break
		}
	}
	if err == nil { // only its end shows that the chunk is what was written
		_, err = copyContext(ctx, m, r)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	for i, p := range c.Parts {
		if n := counters[i].Rows(); n != p.Rows || !counters[i].Complete() {
			t := o.Backup.Tables[p.Table]
			return pgmedic.Errorf(pgmedic.KindIntegrity, "", "a chunk of %s holds %s, the manifest says %s",
				sqltext.QuoteQualified(t.Schema, t.Name), words.Plural(n, "row"), pgmedic.Count(p.Rows))
		}
	}
	return nil
}

// countedRows compares the rows in a dump with those that the manifest says it
// holds.
func countedRows(b *pgmedic.Backup, counter *dumpsql.RowCounter) pgmedic.Check {
	check := pgmedic.Check{Name: "row counts", Outcome: pgmedic.OutcomeOK}
	want, have := b.Rows(), int64(0)
	for _, n := range counter.Counts() {
		have += n
	}
	check.Detail = words.Plural(have, "row") + " in " + words.Plural(len(b.Tables), "table")
	if have != want || !counter.Complete() {
		check.Outcome = pgmedic.OutcomeFailed
		check.Detail = fmt.Sprintf("the dump holds %s, the manifest says %s", words.Plural(have, "row"), pgmedic.Count(want))
		return check
	}
	for _, t := range b.Tables {
		name := sqltext.QuoteQualified(t.Schema, t.Name)
		if got, ok := counter.Counts()[name]; ok && t.RootName == "" && got != t.Rows {
			check.Outcome = pgmedic.OutcomeFailed
			check.Detail = fmt.Sprintf("%s has %s in the dump, %s in the manifest", name, words.Plural(got, "row"), pgmedic.Count(t.Rows))
			return check
		}
	}
	if b.Database.Encoding != "UTF8" && !sameUnnamed(b, counter.Counts()) {
		check.Outcome = pgmedic.OutcomeFailed
		check.Detail = "tables with names beyond ASCII have other numbers of rows in the dump than in the manifest"
	}
	return check
}

// sameUnnamed compares the rows of tables that are called otherwise in the dump,
// where names are in the database's encoding. Only a server
// can match the names; the numbers of rows can be compared without one.
func sameUnnamed(b *pgmedic.Backup, counts map[string]int64) bool {
	var want, have []int64
	known := make(map[string]bool, len(b.Tables))
	for _, t := range b.Tables {
		name := sqltext.QuoteQualified(t.Schema, t.Name)
		known[name] = true
		if _, ok := counts[name]; ok {
			continue
		}
		if t.RootName != "" {
			return true // rows may be counted with another leaf, or the root
		}
		if t.Rows > 0 {
			want = append(want, t.Rows)
		}
	}
	for name, n := range counts {
		if n > 0 && !known[name] {
			have = append(have, n)
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	return slices.Equal(want, have)
}

// copyContext is io.Copy that stops soon after ctx ends.
func copyContext(ctx context.Context, dst io.Writer, src io.Reader) (int64, error) {
	return io.CopyBuffer(onlyWriter{dst}, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return src.Read(p)
	}), make([]byte, verifyBuffer))
}

// verifyBuffer is how much is decompressed at a time.
const verifyBuffer = 256 << 10

// onlyWriter hides the shortcuts of a writer.
type onlyWriter struct{ io.Writer }

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// discard is the logger used when Options has none.
func discard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
