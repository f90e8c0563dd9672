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
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

func (a *app) showCommand() *cobra.Command {
	var all, why bool
	cmd := &cobra.Command{
		Use:   "show [ID|latest]",
		Short: "Show one backup whole: steps, tables, objects, receipts",
		Long: `Shows what a backup holds, how it was taken, and what was proven of it. An id can
be shortened to its beginning or to its last six digits.`,
		Example: `  pgmedic show latest
  pgmedic show 7f3a9c --all-tables`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.show(cmd.Context(), args, all, why)
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&why, "why", false, "say what retention does with it, and why")
	cmd.Flags().BoolVar(&all, "all-tables", false, "list every table, not only the largest")
	return cmd
}

func (a *app) show(ctx context.Context, args []string, all, why bool) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := a.judgedBackup(ctx, c, args)
	if err != nil {
		return err
	}
	copies := a.lookAtCopies(ctx, catalog.Filter{Server: e.Backup.Server.Name, Database: e.Backup.Database.Name})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e.Shrunk = a.shrunkSince(ctx, c, e.Backup)
	var reason *retention.Decision
	if why {
		d := a.reasons(ctx, catalog.Filter{Server: e.Backup.Server.Name, Database: e.Backup.Database.Name})[e.Backup.ID]
		reason = &d
	}
	if a.global.json {
		return a.printJSON(map[string]any{
			"why":    reason,
			"shrunk": e.Shrunk, "backup": e.Backup, "proof": proofOfEntry(e), "receipts": orEmpty(e.Receipts), "unheeded_receipts": unheeded(e),
			"holds": orEmpty(e.Holds), "mark": e.Mark,
			"copies": statesOf(e.Backup, copies), "copy_stores": orEmpty(copies), "keys": e.Keys, "sampled": e.Sampled(location(c)),
		})
	}
	if a.global.quiet {
		a.printf("%s\n", e.Backup.ID)
		return nil
	}
	a.printEntry(e, c, copies)
	if reason != nil {
		a.fields("retention", a.verdictWords(*reason))
	}
	a.printUnreadCopies(copies)
	a.printTables(e.Backup, all)
	a.printReceipts(e)
	return nil
}

func (a *app) printEntry(e catalog.Entry, c *catalog.Catalog, copies []copyStore) {
	b, p := e.Backup, a.paint(a.stdoutTTY)
	standing := e.Standing()
	phrase := p.proof(standing.Proof)
	if standing.Claimed {
		phrase = "claimed: " + phrase
	}
	if standing.Proof != pgmedic.ProofTaken {
		phrase += ", " + words.Ago(a.now(), standing.At)
	}
	if drill, ok := e.LastDrill(); ok {
		phrase += fmt.Sprintf("; recovers in %s", secondsWords(drill.RecoverySeconds))
	}
	a.printf("%s\n", p.bold("backup "+words.Clean(b.ID)))
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
	a.fields(
		"proof", phrase,
		"purpose", purpose,
		"database", words.Clean(b.Database.Name),
		"server", fmt.Sprintf("%s, PostgreSQL %s%s", words.Clean(b.Server.Name), b.Server.Version, standby),
		"moment", fmt.Sprintf("%s, %s", b.SnapshotAt.UTC().Format(time.RFC3339), words.Ago(a.now(), b.SnapshotAt)),
		"took", fmt.Sprintf("%s (%s)", words.Duration(b.FinishedAt.Sub(b.StartedAt)), stepWords(b.Steps)),
		"load", loadWords(b.Load),
		"size", sizeWords(b),
		"rows", rowWords(b),
		"shrunk", shrunkWords(e.Shrunk),
		"partial", scopeWords(b),
		"left out", leftOutWords(b),
		"sealed", sealWords(b),
		"keys", keyWords(e),
		"held", heldWords(e, a.now()),
		"marked", markWords(e, a.now()),
		"sampled", a.coverWords(e.Sampled(location(c))),
		"made by", fmt.Sprintf("pgmedic %s with pg_dump %s on %s", b.Programs.Pgmedic, b.Programs.PgDump, words.Clean(b.Host)),
		"labels", strings.Join(labels, ", "),
		"store", location(c),
		"copies", copyWords(b, copies),
		"folder", catalog.Folder(b.Server.Name, b.Database.Name, b.ID),
	)
}

// shrunkWords say how much less a backup has than the one before it, if it does.
func shrunkWords(s *catalog.Shrunk) string {
	if s == nil {
		return ""
	}
	return s.String() + " than backup " + words.Clean(s.Before) + ", the one before it"
}

func (a *app) printTables(b *pgmedic.Backup, all bool) {
	tables := slices.Clone(b.Tables)
	slices.SortStableFunc(tables, func(x, y pgmedic.Table) int { return int(y.SizeBytes>>10) - int(x.SizeBytes>>10) })
	shown := tables
	if !all {
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
		a.printf("\n%s", terminal.Table([]string{"TABLE", "ROWS", "SIZE"}, rows,
			terminal.TableOptions{Indent: 2, Right: []int{1, 2}, Color: a.paint(a.stdoutTTY).on}))
	}
	if more := len(tables) - len(shown); more > 0 {
		a.printf("  and %d smaller ones: --all-tables\n", more)
	}
}

func (a *app) printReceipts(e catalog.Entry) {
	if len(e.Receipts) == 0 {
		a.printf("\nno receipts yet; prove it: pgmedic drill %s\n", words.Clean(e.Backup.ID))
		return
	}
	a.printf("\n%s\n", a.paint(a.stdoutTTY).bold("receipts"))
	for i, r := range e.Receipts {
		phrase := words.Clean(string(r.Kind)) + ": " + a.paint(a.stdoutTTY).proof(r.Proof)
		if r.Sample != nil {
			phrase += ", " + sampleWords(&r)
		}
		if r.RecoverySeconds > 0 {
			phrase += ", recovered in " + secondsWords(r.RecoverySeconds)
		}
		if failed, ok := r.Failed(); ok {
			phrase += ": " + words.Clean(failed.Name+": "+failed.Detail)
		}
		if why := oddReceipt(e, i); why != "" {
			phrase += " (" + why + ")"
		}
		a.printf("  %s  %s on %s\n", r.At.Format(time.RFC3339), phrase, words.Clean(r.Host))
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
		return "none left in the store: nobody can read this backup again"
	case e.Keys == 1:
		return "1 way to open it: pgmedic keys list " + e.Backup.ID
	case e.Keys > 0:
		return fmt.Sprintf("%s to open it: pgmedic keys list %s", count(e.Keys, "way"), e.Backup.ID)
	}
	return ""
}

// coverWords says what samples and verifications have read so far.
func (a *app) coverWords(c catalog.Coverage) string {
	switch {
	case c.Samples == 0:
		return ""
	case c.Objects < c.OfObjects:
		return fmt.Sprintf("%d of %d objects so far", c.Objects, c.OfObjects)
	}
	return fmt.Sprintf("all %d objects, the one longest ago %s", c.OfObjects, words.Ago(a.now(), c.OldestAt))
}

func secondsWords(seconds float64) string {
	return words.Duration(time.Duration(seconds * float64(time.Second)))
}
