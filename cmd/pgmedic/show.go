package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/immutable"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/shrunk"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

type showFlags struct{ allTables, why bool }

// showCommand shows one backup.
type showCommand struct {
	job
	stores   stores
	backups  backups
	retainer retainer

	args  []string
	flags showFlags
}

func showCLI(e *env) *cobra.Command {
	var flags showFlags
	cmd := &cobra.Command{
		Use:   "show [ID|latest]",
		Short: "Show everything about one backup: steps, tables, objects, receipts",
		Long: `Shows what a backup contains, how it was taken, and what is proven of it. An id can
be shortened to its beginning or to its last six digits.`,
		Example: `  pgmedic show latest
  pgmedic show 7f3a9c --all-tables`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &showCommand{job: j, stores: stores{j}, backups: newBackups(j), retainer: newRetainer(j), args: args, flags: flags}
			return command.run(cmd.Context())
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&flags.why, "why", false, "say what retention does with it, and why")
	cmd.Flags().BoolVar(&flags.allTables, "all-tables", false, "list every table, not only the largest")
	return cmd
}

func (cmd *showCommand) run(ctx context.Context) error {
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := cmd.backups.judged(ctx, c, cmd.args)
	if err != nil {
		return err
	}
	copies := cmd.stores.lookAtCopies(ctx, ofSeries(e.Backup))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e.Shrunk, _ = cmd.backups.shrunkSince(ctx, c, e.Backup)
	lock := cmd.stores.lockOf(ctx, c, e.Backup, immutable.Of)
	var reason *retention.Decision
	if cmd.flags.why {
		d := cmd.retainer.reasons(ctx, ofSeries(e.Backup))[e.Backup.ID]
		reason = &d
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]any{
			"why":    reason,
			"shrunk": e.Shrunk, "backup": e.Backup, "proof": proofOfEntry(e), "receipts": orEmpty(e.Receipts), "unheeded_receipts": unheeded(e),
			"holds": orEmpty(e.Holds), "mark": e.Mark, "lock": lock,
			"copies": statesOf(e.Backup, copies), "copy_stores": orEmpty(copies), "keys": e.Keys, "signing": e.Signing, "sampled": e.Sampled(location(c)),
		})
	}
	if cmd.global.quiet {
		cmd.printf("%s\n", e.Backup.ID)
		return nil
	}
	cmd.printEntry(e, c, copies, lock)
	if text := cmd.windowWords(ctx, c, e); text != "" {
		cmd.fields("recovers", text)
	}
	if reason != nil {
		cmd.fields("retention", cmd.verdictWords(*reason))
	}
	cmd.printUnreadCopies(copies)
	cmd.printTables(e.Backup)
	cmd.printReceipts(e)
	return nil
}

func (cmd *showCommand) printEntry(e catalog.Entry, c *catalog.Catalog, copies []copyStore, lock lockRow) {
	b, p := e.Backup, cmd.paint(cmd.stdoutTTY)
	standing := e.Standing()
	phrase := p.proof(standing.Proof)
	if standing.Claimed {
		phrase = "claimed: " + phrase
	}
	if standing.Proof != pgmedic.ProofTaken {
		phrase += ", " + words.Ago(cmd.now(), standing.At)
	}
	if drill, ok := e.LastDrill(); ok {
		phrase += fmt.Sprintf("; recovers in %s", secondsWords(drill.RecoverySeconds))
	}
	cmd.wrapf("%s\n", p.bold("backup "+words.Clean(b.ID)))
	purpose := ""
	if b.Purpose == pgmedic.PurposeSafety {
		purpose = "safety backup of a database that a restore replaced"
	}
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(b.Labels)) {
		labels = append(labels, words.Clean(k+"="+b.Labels[k]))
	}
	standby := ""
	if b.Server.Standby {
		standby = ", a standby"
	}
	madeBy := fmt.Sprintf("pgmedic %s with pg_dump %s on %s", b.Programs.Pgmedic, b.Programs.PgDump, words.Clean(b.Host))
	rows := rowWords(b)
	if b.Physical != nil {
		madeBy, rows = fmt.Sprintf("pgmedic %s on %s", b.Programs.Pgmedic, words.Clean(b.Host)), ""
	}
	cmd.fields(slices.Concat([]string{
		"proof", phrase,
		"purpose", purpose,
		"database", words.Clean(databaseOrAll(b)),
		"server", fmt.Sprintf("%s, PostgreSQL %s%s", words.Clean(b.Server.Name), b.Server.Version, standby),
		"moment", fmt.Sprintf("%s, %s", b.SnapshotAt.UTC().Format(time.RFC3339), words.Ago(cmd.now(), b.SnapshotAt)),
		"took", fmt.Sprintf("%s (%s)", words.Duration(b.FinishedAt.Sub(b.StartedAt)), stepWords(b.Steps)),
		"load", loadWords(b.Load),
		"kind", kindWords(b),
		"size", sizeWords(b),
	}, physicalFields(b), []string{
		"rows", rows,
		"shrunk", shrunkWords(b.ID, e.Shrunk),
		"partial", scopeWords(b),
		"left out", leftOutWords(b),
		"sealed", sealWords(b),
		"keys", keyWords(e),
		"signature", signingWords(e.Signing),
		"held", heldWords(e, cmd.now()),
		"locked", lock.words(cmd.now(), c.Store()),
		"marked", markWords(e, cmd.now()),
		"sampled", cmd.coverWords(e.Sampled(location(c))),
		"made by", madeBy,
		"labels", strings.Join(labels, ", "),
		"store", location(c),
		"copies", copyWords(b, copies),
		"folder", catalog.Folder(b.Server.Name, b.Database.Name, b.ID),
	})...)
}

// ofSeries matches the backups of the same database, or of the same cluster.
func ofSeries(b *pgmedic.Backup) catalog.Filter {
	return catalog.Filter{Server: b.Server.Name, Database: b.Database.Name, Cluster: b.Method == pgmedic.MethodPhysical}
}

// shrunkWords say how much less a backup has than those before it, if it does.
func shrunkWords(id string, s *shrunk.Fall) string {
	if s == nil {
		return ""
	}
	return s.String() + " than backup " + words.Clean(s.Before) + "; what changed: pgmedic diff " + words.Clean(s.Before+" "+id)
}

func (cmd *showCommand) printTables(b *pgmedic.Backup) {
	tables := slices.Clone(b.Tables)
	slices.SortStableFunc(tables, func(x, y pgmedic.Table) int { return int(y.SizeBytes>>10) - int(x.SizeBytes>>10) })
	shown := tables
	if !cmd.flags.allTables {
		shown = tables[:min(len(tables), 10)]
	}
	rows := make([][]string, 0, len(shown))
	for _, t := range shown {
		count := words.Count(t.Rows)
		if t.WithoutRows {
			count = "left out"
		}
		rows = append(rows, []string{t.Schema + "." + t.Name, count, words.Bytes(t.SizeBytes)})
	}
	if len(rows) > 0 {
		cmd.printf("\n")
		printTable(cmd.env, []string{"TABLE", "ROWS", "SIZE"}, rows, terminal.TableOptions{Indent: 2, Right: []int{1, 2}})
	}
	if more := len(tables) - len(shown); more > 0 {
		cmd.wrapf("  and %d smaller ones: --all-tables\n", more)
	}
}

func (cmd *showCommand) printReceipts(e catalog.Entry) {
	if len(e.Receipts) == 0 {
		next := "prove it: pgmedic drill "
		if e.Backup.Method == pgmedic.MethodPhysical {
			next = "read it back: pgmedic verify "
		}
		cmd.wrapf("\nno receipts yet; %s%s\n", next, words.Clean(e.Backup.ID))
		return
	}
	cmd.wrapf("\n%s\n", cmd.paint(cmd.stdoutTTY).bold("receipts"))
	for i, r := range e.Receipts {
		phrase := words.Clean(string(r.Kind)) + ": " + cmd.paint(cmd.stdoutTTY).proof(r.Proof)
		if r.Sample != nil {
			phrase += ", " + sampleWords(&r)
		}
		if r.RecoverySeconds > 0 {
			to := ""
			if r.PITR != nil {
				to = " to " + words.Clean(r.PITR.Target)
			}
			phrase += ", recovered" + to + " in " + secondsWords(r.RecoverySeconds)
		}
		if failed, ok := r.Failed(); ok {
			phrase += ": " + words.Clean(failed.Name+": "+failed.Detail)
		}
		if why := oddReceipt(e, i); why != "" {
			phrase += " (" + why + ")"
		}
		cmd.wrapf("  %s  %s on %s\n", r.At.Format(time.RFC3339), phrase, words.Clean(r.Host))
	}
}

// oddReceipt says why a receipt does not count, or counts as a claim.
func oddReceipt(e catalog.Entry, i int) string {
	switch {
	case e.FromFuture(i):
		return "from the future"
	case !e.Authentic(i):
		return "not authenticated"
	}
	return ""
}

// unheeded lists the times of the receipts that are from the future, or not
// authenticated.
func unheeded(e catalog.Entry) []oddRow {
	rows := []oddRow{}
	for i, r := range e.Receipts {
		if why := oddReceipt(e, i); why != "" {
			rows = append(rows, oddRow{At: r.At, Why: why})
		}
	}
	return rows
}

// oddRow is a receipt that does not count, or counts as a claim.
type oddRow struct {
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

func stepWords(steps []pgmedic.Step) string {
	words := make([]string, 0, len(steps))
	for _, s := range steps {
		words = append(words, s.Name+" "+secondsWords(s.Seconds))
	}
	return strings.Join(words, ", ")
}

func sealWords(b *pgmedic.Backup) string {
	if b.Seal.Encryption == string(seal.EncryptionNone) {
		return b.Seal.Compression + ", not encrypted"
	}
	return b.Seal.Compression + ", encrypted with " + b.Seal.Encryption
}

// keyWords says how many ways to open a backup there are, where it has any.
func keyWords(e catalog.Entry) string {
	switch {
	case e.Unopenable():
		return "none left in the store: this backup can no longer be read"
	case e.Keys == 1:
		return "1 way to open it: pgmedic keys list " + e.Backup.ID
	case e.Keys > 0:
		return fmt.Sprintf("%s to open it: pgmedic keys list %s", words.Plural(e.Keys, "way"), e.Backup.ID)
	}
	return ""
}

// coverWords says what samples and verifications have read so far.
func (cmd *showCommand) coverWords(c catalog.Coverage) string {
	switch {
	case c.Samples == 0:
		return ""
	case c.Objects < c.OfObjects:
		return fmt.Sprintf("%d of %d objects so far", c.Objects, c.OfObjects)
	}
	return fmt.Sprintf("all %d objects, the one longest ago %s", c.OfObjects, words.Ago(cmd.now(), c.OldestAt))
}

func secondsWords(seconds float64) string {
	return words.Duration(time.Duration(seconds * float64(time.Second)))
}
