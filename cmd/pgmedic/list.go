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
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// backupRow is one backup in a listing's JSON.
type backupRow struct {
	ID            string          `json:"id"`
	Method        pgmedic.Method  `json:"method"`
	Purpose       pgmedic.Purpose `json:"purpose"`
	StartedAt     time.Time       `json:"started_at"`
	SnapshotAt    time.Time       `json:"snapshot_at"`
	FinishedAt    time.Time       `json:"finished_at"`
	Server        string          `json:"server"`
	ServerVersion string          `json:"server_version"`
	Database      string          `json:"database"`
	StoredBytes   int64           `json:"stored_bytes"`
	PlainBytes    int64           `json:"plain_bytes"`
	Rows          int64           `json:"rows"`
	Tables        int             `json:"tables"`
	Partial       bool            `json:"partial"`
	// Encryption is age, aes-256-cbc or none.
	Encryption string    `json:"encryption"`
	Proof      proofRow  `json:"proof"`
	Copies     copiesRow `json:"copies"`
	// Keys is how many ways there are to open it, where it is encrypted with age.
	Keys int `json:"keys,omitempty"`
	// Shrunk says that it has far fewer rows or tables than the one before it.
	Shrunk *catalog.Shrunk   `json:"shrunk,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Holds keep it from being deleted, Mark says that it will be.
	Holds []catalog.Hold `json:"holds,omitempty"`
	Mark  *catalog.Mark  `json:"mark,omitempty"`
	// Why says, with --why, what retention does with it.
	Why *retention.Decision `json:"why,omitempty"`
}

// proofRow says how much is known of a backup, and since when.
type proofRow struct {
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
		Encryption: b.Seal.Encryption,
		Proof:      proofOfEntry(e), Copies: copiesOf(b, copies), Keys: e.Keys,
		Shrunk: e.Shrunk,
		Labels: b.Labels, Holds: e.Holds, Mark: e.Mark,
	}
	if drill, ok := e.LastDrill(); ok {
		row.Proof.RecoverySeconds = drill.RecoverySeconds
	}
	return row
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

func (a *app) listCommand() *cobra.Command {
	var database string
	var orphans, why bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups and how far each is proven",
		Long: `Lists the backups in the store, newest first, with age, database, size, encryption,
proof and its age, and how many of the configured stores hold each backup. The proof
of an encrypted backup is "claimed" if this host has no key to authenticate the
receipts. With a passphrase, which is slow to try, only the newest few are
authenticated; show authenticates any backup. A store of copies that cannot be read
is named, and its contents count as unknown. A backup is "shrunk" if it has half the
rows or a third of the tables fewer than the previous backup of the same database.
With --why it says what retention does with each, and why.

With --orphans it lists what runs without a manifest left behind, or are writing
now: these are not backups, but they use space.`,
		Example: `  pgmedic list
  pgmedic list --database clinic --json
  pgmedic list --why
  pgmedic list --orphans`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.list(cmd.Context(), catalog.Filter{Server: a.cfg.Server, Database: database}, orphans, why)
		},
	}
	addStore(cmd)
	addSetting(cmd, "server", "server", "only backups filed under this server's name")
	cmd.Flags().BoolVar(&why, "why", false, "say what retention does with each backup, and why")
	cmd.Flags().BoolVar(&orphans, "orphans", false, "list what has no manifest instead")
	cmd.Flags().StringVar(&database, "database", "", "only backups of this database")
	return cmd
}

func (a *app) list(ctx context.Context, f catalog.Filter, orphans, why bool) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	f = a.trusting(f)
	listing, err := c.List(ctx, f)
	if err != nil {
		return err
	}
	if orphans {
		return a.listOrphans(listing.Orphans)
	}
	copies := a.lookAtCopies(ctx, f)
	var reasons map[string]retention.Decision
	if why {
		reasons = a.reasons(ctx, f)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if a.global.json {
		rows := make([]backupRow, 0, len(listing.Entries))
		for _, e := range listing.Entries {
			row := rowOf(e, copies...)
			if d, ok := reasons[e.Backup.ID]; ok {
				row.Why = &d
			}
			rows = append(rows, row)
		}
		return a.printJSON(map[string]any{"backups": rows, "damaged": orEmpty(listing.Damaged), "orphans": orEmpty(listing.Orphans),
			"copy_stores": orEmpty(copies)})
	}
	if a.global.quiet {
		for _, e := range listing.Entries {
			a.printf("%s\n", e.Backup.ID)
		}
		return nil
	}
	a.printListing(listing, f, c, copies)
	a.printReasons(listing, reasons)
	return nil
}

func (a *app) printListing(listing catalog.Listing, f catalog.Filter, c *catalog.Catalog, copies []copyStore) {
	p := a.paint(a.stdoutTTY)
	if len(listing.Entries) == 0 {
		of := ""
		if f.Database != "" {
			of = " of database " + words.Clean(f.Database)
		}
		if f.Server != "" {
			of += " of server " + words.Clean(f.Server)
		}
		a.printf("no backups%s in %s; take one: pgmedic backup\n", of, words.Clean(location(c)))
	} else {
		a.printf("%s", a.backupTable(listing.Entries, copies))
	}
	for _, d := range listing.Damaged {
		a.printf("%s %s\n", p.bad("damaged:"), words.Clean(d.Reason))
	}
	for _, e := range listing.Entries {
		if e.Shrunk != nil {
			a.printf("%s backup %s: %s than %s, the one before it\n", p.warn("shrunk:"), e.Backup.ID, e.Shrunk, words.Clean(e.Shrunk.Before))
		}
	}
	for _, e := range listing.Entries {
		if e.Unopenable() {
			a.printf("%s backup %s: no way to open it is left in the store: nobody can read it again\n", p.bad("no key:"), e.Backup.ID)
		}
	}
	if n := listing.Costly(); n > 0 {
		a.printf("%s\n", p.dim(fmt.Sprintf("of %d more, who wrote their receipts was not checked, which takes the passphrase a moment each: pgmedic show ID", n)))
	}
	a.printUnreadCopies(copies)
	servers := listing.ServersByName()
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		ids := servers[name]
		a.printf("%s\n", p.dim(fmt.Sprintf("%d servers are filed under %s, or one that was replaced: system identifiers %s", len(ids), words.Clean(name), words.Clean(strings.Join(ids, ", ")))))
	}
	if n := len(listing.Orphans); n > 0 {
		var size int64
		for _, o := range listing.Orphans {
			size += o.SizeBytes
		}
		a.printf("%s\n", p.dim(fmt.Sprintf("%d without a manifest, %s: runs that never finished, or are going on (--orphans)", n, words.Bytes(size))))
	}
}

// wideTable is how many columns of a terminal the whole table of backups needs.
const wideTable = 130

func (a *app) backupTable(entries []catalog.Entry, copies []copyStore) string {
	if columns := a.stdoutWidth(); a.stdoutTTY && columns > 0 && columns < wideTable {
		return a.narrowTable(entries, copies, columns)
	}
	now := a.now()
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		r := rowOf(e, copies...)
		method := string(r.Method)
		if r.Purpose == pgmedic.PurposeSafety {
			method += ", safety"
		}
		if r.Partial {
			method += ", partial"
		}
		ratio := "-"
		if r.StoredBytes > 0 {
			ratio = fmt.Sprintf("%.1f:1", float64(r.PlainBytes)/float64(r.StoredBytes))
		}
		proof := r.Proof.words(now)
		if r.Shrunk != nil {
			proof += ", shrunk"
		}
		proof += keepingWords(e, now)
		rows = append(rows, []string{r.ID, words.Ago(now, r.SnapshotAt), r.Server, r.Database, words.Bytes(r.StoredBytes),
			ratio, method, r.Encryption, proof, r.Copies.String()})
	}
	return terminal.Table([]string{"ID", "AGE", "SERVER", "DATABASE", "SIZE", "RATIO", "METHOD", "ENCRYPTION", "PROOF", "COPIES"}, rows,
		terminal.TableOptions{Right: []int{4, 5}, Color: a.paint(a.stdoutTTY).on})
}

// narrowTable leaves out what show tells as well.
func (a *app) narrowTable(entries []catalog.Entry, copies []copyStore, columns int) string {
	now := a.now()
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		r := rowOf(e, copies...)
		proof := r.Proof.words(now)
		if r.Purpose == pgmedic.PurposeSafety {
			proof += ", safety"
		}
		if r.Partial {
			proof += ", partial"
		}
		if r.Shrunk != nil {
			proof += ", shrunk"
		}
		proof += keepingWords(e, now)
		if r.Encryption == string(seal.EncryptionNone) && a.hasMeans() {
			proof += ", not encrypted"
		}
		if r.Copies.Complete < r.Copies.Wanted {
			proof += ", copies " + r.Copies.String()
		}
		rows = append(rows, []string{r.ID, words.Ago(now, r.SnapshotAt), r.Database, words.Bytes(r.StoredBytes), proof})
	}
	return terminal.Table([]string{"ID", "AGE", "DATABASE", "SIZE", "PROOF"}, rows,
		terminal.TableOptions{Width: columns, Shrink: []int{2}, Right: []int{3}, Color: a.paint(true).on})
}

// listOrphans prints what has no manifest.
func (a *app) listOrphans(orphans []catalog.Orphan) error {
	if a.global.json {
		return a.printJSON(map[string]any{"orphans": orEmpty(orphans)})
	}
	rows := make([][]string, 0, len(orphans))
	for _, o := range orphans {
		if a.global.quiet {
			a.printf("%s\n", o.Folder)
			continue
		}
		rows = append(rows, []string{o.Folder, strconv.Itoa(o.Objects), words.Bytes(o.SizeBytes), words.Ago(a.now(), o.NewestAt)})
	}
	if len(rows) > 0 {
		a.printf("%s", terminal.Table([]string{"FOLDER", "OBJECTS", "SIZE", "LAST WRITTEN"}, rows,
			terminal.TableOptions{Right: []int{1, 2}, Color: a.paint(a.stdoutTTY).on}))
	} else if !a.global.quiet {
		a.printf("no orphans\n")
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
