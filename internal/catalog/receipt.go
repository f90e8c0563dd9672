package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// maxReceiptBytes and maxReceiptMemory bound a receipt as it is stored and as
	// it is held in memory: a verification has a check for each object.
	maxReceiptBytes  = 8 << 20
	maxReceiptMemory = 16 << 20
	// receiptRoom bounds what a listing holds of receipts.
	receiptRoom = 64 << 20
	// maxAheadReceipt is how far in the future a receipt may be that counts for
	// something good.
	maxAheadReceipt = 5 * time.Minute
)

// receiptMAC matches the name of a receipt that carries its authentication.
var receiptMAC = regexp.MustCompile(`-([0-9a-f]{64})\.json$`)

// AddReceipt stores a receipt beside its backup. Its name carries the
// authentication that mac makes of it, if mac is not nil.
func (c *Catalog) AddReceipt(ctx context.Context, b *pgmedic.Backup, r *pgmedic.Receipt, mac func(receipt []byte) (string, error)) error {
	r.Audit = c.anchor(ctx)
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil && len(data) >= maxReceiptBytes {
		data, err = json.Marshal(r)
	}
	if err != nil {
		return fmt.Errorf("write the receipt: %w", err)
	}
	if data = append(data, '\n'); len(data) > maxReceiptBytes {
		return fmt.Errorf("write the receipt: it takes %s bytes, and none is read that takes more than %s", pgmedic.Count(len(data)), pgmedic.Count(maxReceiptBytes))
	}
	// Nanoseconds keep two receipts of one second apart.
	name := r.At.UTC().Format("20060102T150405.000000000Z") + "-" + string(r.Kind)
	if mac != nil {
		code, err := mac(data)
		if err != nil {
			return fmt.Errorf("authenticate the receipt: %w", err)
		}
		name += "-" + code
	}
	if _, err := c.store.Put(ctx, Key(b, receiptsFolder+"/"+name+".json"), bytes.NewReader(data)); err != nil {
		return fmt.Errorf("store the receipt: %w", err)
	}
	return nil
}

// CheckReceipt returns nil if mac authenticates a receipt as it is stored.
type CheckReceipt func(receipt []byte, mac string) error

// Trust tells a listing what was written by who could open a backup.
type Trust interface {
	// Open returns what checks the receipts of an encrypted backup, having
	// authenticated its manifest. It is nil where this host can't tell: what is
	// said of the backup is then a claim. An error of KindIntegrity means that the
	// manifest was not written by who sealed the backup, ErrCostly that it could be
	// told with costly.
	Open(ctx context.Context, c *Catalog, b *pgmedic.Backup, m *Manifest, costly bool) (CheckReceipt, error)
	// RefusesUnencrypted reports whether this host uses encrypted backups alone: of
	// others nothing is proven.
	RefusesUnencrypted() bool
	// Signers are those whose signatures of manifests this host believes, or nil where
	// it names none.
	Signers() signature.Signers
	// RefusesUnsigned reports whether this host uses backups alone that one of the
	// Signers signed: of others nothing is proven.
	RefusesUnsigned() bool
}

// ErrCostly is the error of a Trust that did not try what takes long.
var ErrCostly = errors.New("a passphrase takes long to try")

// storedReceipt is a receipt as a listing finds it.
type storedReceipt struct {
	key        string
	size       int64
	modifiedAt time.Time
}

// fact is what is known of a receipt beside its contents.
type fact struct {
	// stored is when the store says that the receipt was written; zero where it
	// does not say.
	stored time.Time
	// authentic is true where the receipt was checked, or where its backup has
	// nothing to check it with.
	authentic bool
	// ahead is true of a receipt from the future.
	ahead bool
}

// readReceipts reads the receipts of a backup into its entry, oldest first. A bad
// one is as none: receipts carry no weight in a restore, and must not take a
// backup from the list.
func (c *Catalog) readReceipts(ctx context.Context, d *folder, e *Entry, l *loading) error {
	type found struct {
		r pgmedic.Receipt
		f fact
	}
	var all []found
	for _, stored := range d.receipts {
		r, f, err := c.readReceipt(ctx, stored, d.id, l)
		if err != nil {
			return fmt.Errorf("read receipt %s: %w", path.Base(stored.key), err)
		}
		if r == nil {
			continue
		}
		if !l.whole {
			summarizeReceipt(r)
		}
		// Those that count for nothing are shown where one backup is, and dropped here.
		if !l.whole && !f.authentic && !e.claims && r.Outcome == pgmedic.OutcomeOK {
			continue
		}
		if l.room.Add(-receiptSize(r)) < 0 {
			e.incomplete = true
			break
		}
		all = append(all, found{*r, f})
	}
	slices.SortStableFunc(all, func(a, b found) int { return a.r.At.Compare(b.r.At) })
	for _, x := range all {
		e.Receipts, e.facts = append(e.Receipts, x.r), append(e.facts, x.f)
	}
	return nil
}

// readReceipt returns nil for what is not a receipt of the backup.
func (c *Catalog) readReceipt(ctx context.Context, s storedReceipt, id string, l *loading) (*pgmedic.Receipt, fact, error) {
	f := fact{stored: s.modifiedAt}
	if s.size > maxReceiptBytes {
		return nil, f, nil
	}
	release, err := l.acquire(ctx, s.size)
	if err != nil {
		return nil, f, err
	}
	defer release()
	data, err := c.read(ctx, s.key, maxReceiptBytes)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errTooLarge):
		return nil, f, nil
	case err != nil:
		return nil, f, err
	}
	if measure(data, receiptWeights()).memory > maxReceiptMemory {
		return nil, f, nil
	}
	r := &pgmedic.Receipt{}
	if json.Unmarshal(data, r) != nil || r.BackupID != id || !wellFormed(r) {
		return nil, f, nil
	}
	f.authentic = l.check == nil && !l.mustCheck
	if m := receiptMAC.FindStringSubmatch(s.key); l.check != nil && m != nil {
		f.authentic = l.check(data, m[1]) == nil
	}
	f.ahead = !l.Now.IsZero() && r.At.After(l.Now.Add(maxAheadReceipt))
	return r, f, nil
}

// wellFormed reports whether a receipt says what pgmedic's do.
func wellFormed(r *pgmedic.Receipt) bool {
	if r.Format < 1 || r.Format > pgmedic.ReceiptFormat || r.At.Year() < 2000 || r.At.Year() > 9000 {
		return false
	}
	reached := map[pgmedic.ReceiptKind][]pgmedic.Proof{
		pgmedic.ReceiptVerify:  {pgmedic.ProofTaken, pgmedic.ProofIntact, pgmedic.ProofVerified},
		pgmedic.ReceiptDrill:   {pgmedic.ProofProven},
		pgmedic.ReceiptRestore: {pgmedic.ProofTaken, pgmedic.ProofVerified, pgmedic.ProofProven},
	}
	proofs, known := reached[r.Kind]
	_, failed := r.Failed()
	switch r.Outcome {
	case pgmedic.OutcomeFailed:
		return known
	case pgmedic.OutcomeOK:
		return known && !failed && slices.Contains(proofs, r.Proof)
	case pgmedic.OutcomeWarn, pgmedic.OutcomeSkipped:
	}
	return false
}

// summarizeReceipt keeps what a listing needs of a receipt.
func summarizeReceipt(r *pgmedic.Receipt) {
	r.Steps, r.Scratch, r.Swap, r.Counted, r.Programs = nil, nil, nil, nil, pgmedic.Programs{}
	if r.Kind != pgmedic.ReceiptVerify { // the checks of a verification are the objects that it read
		r.Checks = nil
	}
	for i := range r.Checks {
		r.Checks[i].Detail, r.Checks[i].Hint = "", ""
	}
}

// receiptSize estimates what a receipt takes in memory.
func receiptSize(r *pgmedic.Receipt) int64 {
	n := 500 + len(r.Host) + len(r.Store) + 48*len(r.Steps)
	for _, c := range r.Checks {
		n += 96 + len(c.Name) + len(c.Detail) + len(c.Hint)
	}
	return int64(n)
}

// isReceipt reports whether an object's name within the backup's folder is that of
// a receipt.
func isReceipt(name string) bool {
	file, ok := strings.CutPrefix(name, receiptsFolder+"/")
	return ok && !strings.Contains(file, "/") && strings.HasSuffix(file, ".json")
}
