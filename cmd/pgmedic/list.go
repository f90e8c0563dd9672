package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/shrunk"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// listResult is what list prints with --json.
type listResult struct {
	// Backups are the complete ones, newest first.
	Backups []backupRow `json:"backups"`
	// CopyStores are the configured stores of copies.
	CopyStores []copyStore `json:"copy_stores"`
	// Damaged are backups that can't be used, with the reason.
	Damaged []catalog.Damaged `json:"damaged"`
	// Orphans are folders without a manifest, which runs that died left, or that are being
	// written now.
	Orphans []catalog.Orphan `json:"orphans"`
	// Recoverable says of each server whose WAL is stored to which moments it can be recovered.
	Recoverable []recoveryRow `json:"recoverable"`
}

// backupRow is one backup in a listing's JSON.
type backupRow struct {
	// ID is the backup's: it is unique and sorts by time.
	ID string `json:"id"`
	// Method is how it was taken.
	Method pgmedic.Method `json:"method"`
	// Purpose is safety for a backup that a restore took of the database that it replaced.
	Purpose pgmedic.Purpose `json:"purpose"`
	// StartedAt and FinishedAt are when the run began and ended, SnapshotAt is the moment
	// whose data it holds.
	StartedAt  time.Time `json:"started_at"`
	SnapshotAt time.Time `json:"snapshot_at"`
	FinishedAt time.Time `json:"finished_at"`
	// Server is the name that the server's backups are filed under.
	Server string `json:"server"`
	// ServerVersion is the version of PostgreSQL.
	ServerVersion string `json:"server_version"`
	// Database is its name, empty for a base backup, which has all.
	Database string `json:"database"`
	// StoredBytes is what it takes in the store, PlainBytes what that is before compression.
	StoredBytes int64 `json:"stored_bytes"`
	PlainBytes  int64 `json:"plain_bytes"`
	// Rows and Tables count those in the backup.
	Rows   int64 `json:"rows"`
	Tables int   `json:"tables"`
	// Partial is true where a part of the database was asked for.
	Partial bool `json:"partial"`
	// Physical is true of a base backup of all databases, whose Database is empty, and Clean
	// is false where pages of it are damaged.
	Physical bool `json:"physical"`
	Clean    bool `json:"clean"`
	// Encryption is age, aes-256-cbc or none.
	Encryption string `json:"encryption"`
	// Proof is how far it is known that it can be restored.
	Proof proofRow `json:"proof"`
	// Signing says who signed the manifest, as far as this host checks that.
	Signing signature.Signing `json:"signing"`
	// Copies says how many of the configured stores hold it.
	Copies copiesRow `json:"copies"`
	// Keys is how many ways there are to open it, where it is encrypted with age.
	Keys int `json:"keys,omitempty"`
	// Shrunk says that it has far less than those before it.
	Shrunk *shrunk.Fall `json:"shrunk,omitempty"`
	// Labels are those that it was given.
	Labels map[string]string `json:"labels,omitempty"`
	// Holds keep it from being deleted, Mark says that it will be.
	Holds []catalog.Hold `json:"holds,omitempty"`
	Mark  *catalog.Mark  `json:"mark,omitempty"`
	// Lock is until when the store keeps it from being deleted; none where that was not
	// asked.
	Lock *lockRow `json:"lock,omitempty"`
	// Why says, with --why, what retention does with it.
	Why *retention.Decision `json:"why,omitempty"`
}

// proofRow says how much is known of a backup, and since when.
type proofRow struct {
	// State is the degree, and At is when it was reached.
	State pgmedic.Proof `json:"state"`
	At    time.Time     `json:"at"`
	// Claimed is true where the backup is encrypted and this host can't tell who
	// wrote the receipts that say so.
	Claimed bool `json:"claimed"`
	// RecoverySeconds is the time to recover that the last drill measured.
	RecoverySeconds float64 `json:"recovery_seconds,omitempty"`
}

func rowOf(e catalog.Entry, copies ...copyStore) backupRow {
	b := e.Backup
	row := backupRow{
		ID: b.ID, Method: b.Method, Purpose: b.Purpose, StartedAt: b.StartedAt, SnapshotAt: b.SnapshotAt,
		FinishedAt: b.FinishedAt, Server: b.Server.Name, ServerVersion: b.Server.Version, Database: b.Database.Name,
		StoredBytes: b.StoredBytes(), PlainBytes: plainBytes(b), Rows: e.Rows, Tables: e.Tables, Partial: b.Partial(),
		Physical: b.Physical != nil, Clean: b.Clean(),
		Encryption: b.Seal.Encryption,
		Proof:      proofOfEntry(e), Copies: copiesOf(b, copies), Keys: e.Keys,
		Shrunk: e.Shrunk, Signing: e.Signing,
		Labels: b.Labels, Holds: e.Holds, Mark: e.Mark,
	}
	if drill, ok := e.LastDrill(); ok {
		row.Proof.RecoverySeconds = drill.RecoverySeconds
	}
	return row
}

// databaseOrAll is the name of a backup's database.
func databaseOrAll(b *pgmedic.Backup) string {
	if b.Method == pgmedic.MethodPhysical {
		return "(all)"
	}
	return b.Database.Name
}

func proofOfEntry(e catalog.Entry) proofRow {
	s := e.Standing()
	return proofRow{State: s.Proof, At: s.At, Claimed: s.Claimed}
}

// words say what is known of a backup, and since when: claimed: proven 2 h ago.
func (r proofRow) words(now time.Time) string {
	phrase := string(r.State)
	if r.Claimed {
		phrase = "claimed: " + phrase
	}
	if r.State != pgmedic.ProofTaken {
		phrase += " " + words.Ago(now, r.At)
	}
	return phrase
}

type listFlags struct {
	database     string
	orphans, why bool
}

// listCommand lists the backups of a store.
type listCommand struct {
	job
	stores   stores
	keys     keyring
	retainer retainer

	flags listFlags
}

func listCLI(e *env) *cobra.Command {
	var flags listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups and how far each is proven",
		Long: `Lists the backups in the store, newest first, with age, database, size, encryption,
proof and its age, and how many of the configured stores hold each backup. The proof
of an encrypted backup is "claimed" if this host has no key to authenticate the
receipts. With a passphrase, which is slow to try, only the newest few are
authenticated; show authenticates any backup. A store of copies that cannot be read
is named, and its contents count as unknown. A backup is "shrunk" if it has half the
rows, a third of the tables or half the contents fewer than those before it of the same
database, and the label shrunk=expected did not announce that.
With --why it says what retention does with each, and why. Where object_lock is set
it says until when each is locked.

Where WAL of a server is stored, a line says to which moments the server can be recovered
from the base backups of this store, the newest of them that pgmedic drill --at has
proven, and the state of its WAL: see pgmedic wal status.

On a terminal without room for all columns it leaves out what show tells as well, and
writes what is unusual about a backup below it: that it is held, partial or damaged, not
encrypted, or not in all stores. To a file or a pipe it writes all columns.

With --orphans it lists what runs without a manifest left behind, or are writing
now: these are not backups, but they use space.`,
		Example: `  pgmedic list
  pgmedic list --database clinic --json
  pgmedic list --why
  pgmedic list --orphans`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &listCommand{job: j, stores: stores{j}, keys: keyring{j}, retainer: newRetainer(j), flags: flags}
			return command.run(cmd.Context())
		},
	}
	addStore(cmd)
	addSetting(cmd, "server", "server", "only backups filed under this server's name")
	cmd.Flags().BoolVar(&flags.why, "why", false, "say what retention does with each backup, and why")
	cmd.Flags().BoolVar(&flags.orphans, "orphans", false, "list what has no manifest instead")
	cmd.Flags().StringVar(&flags.database, "database", "", "only backups of this database")
	return cmd
}

func (cmd *listCommand) run(ctx context.Context) error {
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	f := cmd.keys.trusting(catalog.Filter{Server: cmd.cfg.Server, Database: cmd.flags.database})
	listing, err := c.List(ctx, f)
	if err != nil {
		return err
	}
	if cmd.flags.orphans {
		return cmd.listOrphans(listing.Orphans)
	}
	copies := cmd.stores.lookAtCopies(ctx, f)
	var locks map[string]*lockRow
	if !cmd.global.quiet {
		locks = cmd.stores.locksOf(ctx, c, listing.Entries)
	}
	var reasons map[string]retention.Decision
	if cmd.flags.why {
		reasons = cmd.retainer.reasons(ctx, f)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch {
	case cmd.global.json:
		result := listResult{
			Backups: rowsOf(listing.Entries, copies, locks, reasons), Damaged: orEmpty(listing.Damaged), Orphans: orEmpty(listing.Orphans),
			CopyStores: orEmpty(copies), Recoverable: []recoveryRow{},
		}
		if !cmd.global.quiet {
			result.Recoverable = cmd.recoveries(ctx, c, listing)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return cmd.printJSON(result)
	case cmd.global.quiet:
		for _, e := range listing.Entries {
			cmd.printf("%s\n", e.Backup.ID)
		}
		return nil
	}
	cmd.printListing(listing, f, c, copies)
	cmd.stores.printLocks(c, listing, locks)
	// The listing of a month of WAL can take seconds: what is known is there before it.
	recoveries := cmd.recoveries(ctx, c, listing)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cmd.printRecoveries(recoveries)
	cmd.printReasons(listing, reasons)
	return nil
}

// rowsOf are the rows of a listing's JSON.
func rowsOf(entries []catalog.Entry, copies []copyStore, locks map[string]*lockRow, reasons map[string]retention.Decision) []backupRow {
	rows := make([]backupRow, 0, len(entries))
	for _, e := range entries {
		row := rowOf(e, copies...)
		if d, ok := reasons[e.Backup.ID]; ok {
			row.Why = &d
		}
		row.Lock = locks[e.Backup.ID]
		rows = append(rows, row)
	}
	return rows
}

func (cmd *listCommand) printListing(listing catalog.Listing, f catalog.Filter, c *catalog.Catalog, copies []copyStore) {
	p := cmd.paint(cmd.stdoutTTY)
	if len(listing.Entries) == 0 {
		of := ""
		if f.Database != "" {
			of = " of database " + words.Clean(f.Database)
		}
		if f.Server != "" {
			of += " of server " + words.Clean(f.Server)
		}
		cmd.wrapf("no backups%s in %s; take one: pgmedic backup\n", of, words.Clean(location(c)))
	} else {
		cmd.wrapf("%s", cmd.backupTable(listing.Entries, copies))
	}
	for _, d := range listing.Damaged {
		text := words.Clean(d.Reason)
		if held := heldBy(d.Holds); held != "" {
			text += "; " + held
		}
		cmd.wrapf("%s %s\n", p.bad("damaged:"), text)
	}
	for _, e := range listing.Entries {
		if e.Shrunk != nil {
			cmd.wrapf("%s backup %s: %s than backup %s\n", p.warn("shrunk:"), e.Backup.ID, e.Shrunk, words.Clean(e.Shrunk.Before))
		}
	}
	for _, e := range listing.Entries {
		if e.Unopenable() {
			cmd.wrapf("%s backup %s: no key that opens it is left in the store: it can no longer be read\n", p.bad("no key:"), e.Backup.ID)
		}
	}
	if n := listing.Costly(); n > 0 {
		cmd.wrapf("%s\n", p.dim(fmt.Sprintf("of %d more, who wrote their receipts was not checked, which takes the passphrase a moment each: pgmedic show ID", n)))
	}
	cmd.printUnreadCopies(copies)
	servers := listing.ServersByName()
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		ids := servers[name]
		cmd.wrapf("%s\n", p.dim(fmt.Sprintf("%d servers are filed under %s, or one that was replaced: system identifiers %s", len(ids), words.Clean(name), words.Clean(strings.Join(ids, ", ")))))
	}
	if n := len(listing.Orphans); n > 0 {
		var size int64
		for _, o := range listing.Orphans {
			size += o.SizeBytes
		}
		cmd.wrapf("%s\n", p.dim(fmt.Sprintf("%d without a manifest, %s: runs that never finished, or are going on (--orphans)", n, words.Bytes(size))))
	}
}

// backupTable lays the backups out for a terminal of any width: with all columns, or
// without those that show tells as well, or with the proof below each backup. What is
// unusual about one is never cut: it is in lines of its own where there is no column for
// it. Without a terminal it has all columns.
func (cmd *listCommand) backupTable(entries []catalog.Entry, copies []copyStore) string {
	p := cmd.paint(cmd.stdoutTTY)
	now := cmd.now()
	whole, short, remarks := make([][]string, 0, len(entries)), make([][]string, 0, len(entries)), make([]string, 0, len(entries))
	for _, e := range entries {
		r := rowOf(e, copies...)
		method := string(r.Method)
		if r.Purpose == pgmedic.PurposeSafety {
			method += ", safety"
		}
		if r.Partial {
			method += ", partial"
		}
		if !e.Backup.Clean() {
			method += ", damaged pages"
		}
		ratio := "-"
		if r.StoredBytes > 0 {
			ratio = fmt.Sprintf("%.1f:1", float64(r.PlainBytes)/float64(r.StoredBytes))
		}
		proof := r.Proof.words(now)
		kept := shrunkWord(r) + unsignedWords(e.Signing) + keepingWords(e, now)
		age, size := words.Ago(now, r.SnapshotAt), words.Bytes(r.StoredBytes)
		whole = append(whole, []string{r.ID, age, r.Server, databaseOrAll(e.Backup), size, ratio, method, r.Encryption, proof + kept, r.Copies.String()})
		short = append(short, []string{r.ID, age, databaseOrAll(e.Backup), size, proof})
		remarks = append(remarks, words.Clean(strings.TrimPrefix(cmd.unusual(e, r)+kept, ", ")))
	}
	paint := func(column int) func(int, int, string) string {
		return func(row, at int, cell string) string {
			if at != column {
				return cell
			}
			return p.standing(entries[row].Standing().Proof, cell)
		}
	}
	o := terminal.TableOptions{Shrink: []int{}, Right: []int{4, 5}, Color: p.on, Paint: paint(8)}
	if cmd.stdoutTTY {
		o.Width = cmd.stdoutWidth()
	}
	headers := []string{"ID", "AGE", "SERVER", "DATABASE", "SIZE", "RATIO", "METHOD", "ENCRYPTION", "PROOF", "COPIES"}
	if terminal.Fits(headers, whole, o) {
		return terminal.Table(headers, whole, o)
	}
	o.Shrink, o.Right, o.Move, o.Paint, o.Below = []int{2}, []int{3}, []int{4}, paint(4), remarks
	return terminal.Table([]string{"ID", "AGE", "DATABASE", "SIZE", "PROOF"}, short, o)
}

// shrunkWord says that a backup has far less than those before it.
func shrunkWord(r backupRow) string {
	if r.Shrunk != nil {
		return ", shrunk"
	}
	return ""
}

// unusual says what a narrow table has no column for, where it is not as most are.
func (cmd *listCommand) unusual(e catalog.Entry, r backupRow) string {
	text := ""
	if r.Purpose == pgmedic.PurposeSafety {
		text += ", safety"
	}
	if r.Partial {
		text += ", partial"
	}
	if !e.Backup.Clean() {
		text += ", damaged pages"
	}
	if r.Encryption == string(seal.EncryptionNone) && cmd.keys.hasMeans() {
		text += ", not encrypted"
	}
	if r.Copies.Complete < r.Copies.Wanted {
		text += ", copies " + r.Copies.String()
	}
	return text
}

// listOrphans prints what has no manifest.
func (cmd *listCommand) listOrphans(orphans []catalog.Orphan) error {
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"orphans": orEmpty(orphans)})
	}
	rows := make([][]string, 0, len(orphans))
	for _, o := range orphans {
		if cmd.global.quiet {
			cmd.wrapf("%s\n", o.Folder)
			continue
		}
		rows = append(rows, []string{o.Folder, strconv.Itoa(o.Objects), words.Bytes(o.SizeBytes), words.Ago(cmd.now(), o.NewestAt)})
	}
	if len(rows) > 0 {
		printTable(cmd.env, []string{"FOLDER", "OBJECTS", "SIZE", "LAST WRITTEN"}, rows, terminal.TableOptions{Right: []int{1, 2}})
	} else if !cmd.global.quiet {
		cmd.wrapf("no orphans\n")
	}
	return nil
}

// orEmpty makes JSON's [] of a nil slice.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
