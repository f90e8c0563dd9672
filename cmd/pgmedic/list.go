package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/render"
)

// backupRow is one backup in a listing's JSON.
type backupRow struct {
	ID            string            `json:"id"`
	Method        pgmedic.Method    `json:"method"`
	Purpose       pgmedic.Purpose   `json:"purpose"`
	StartedAt     time.Time         `json:"started_at"`
	SnapshotAt    time.Time         `json:"snapshot_at"`
	FinishedAt    time.Time         `json:"finished_at"`
	Server        string            `json:"server"`
	ServerVersion string            `json:"server_version"`
	Database      string            `json:"database"`
	StoredBytes   int64             `json:"stored_bytes"`
	PlainBytes    int64             `json:"plain_bytes"`
	Rows          int64             `json:"rows"`
	Tables        int               `json:"tables"`
	Partial       bool              `json:"partial"`
	Proof         proofRow          `json:"proof"`
	Copies        copiesRow         `json:"copies"`
	Labels        map[string]string `json:"labels,omitempty"`
}

// proofRow says how much is known of a backup, and since when.
type proofRow struct {
	State pgmedic.Proof `json:"state"`
	At    time.Time     `json:"at"`
	// RecoverySeconds is the time to recover that the last drill measured.
	RecoverySeconds float64 `json:"recovery_seconds,omitempty"`
}

// copiesRow says in how many stores the backup is whole, of how many wanted.
type copiesRow struct {
	Complete int `json:"complete"`
	Wanted   int `json:"wanted"`
}

func rowOf(e catalog.Entry) backupRow {
	b := e.Backup
	proof, at := e.Proof()
	row := backupRow{
		ID: b.ID, Method: b.Method, Purpose: b.Purpose, StartedAt: b.StartedAt, SnapshotAt: b.SnapshotAt,
		FinishedAt: b.FinishedAt, Server: b.Server.Name, ServerVersion: b.Server.Version, Database: b.Database.Name,
		StoredBytes: b.StoredBytes(), PlainBytes: plainBytes(b), Rows: b.Rows(), Tables: len(b.Tables), Partial: b.Partial(),
		Proof: proofRow{State: proof, At: at}, Copies: copiesRow{Complete: 1, Wanted: 1}, Labels: b.Labels,
	}
	if drill, ok := e.LastDrill(); ok {
		row.Proof.RecoverySeconds = drill.RecoverySeconds
	}
	return row
}

func (a *app) listCommand() *cobra.Command {
	var database string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups, with what is proven of each",
		Long: `Lists the backups in the store, newest first: how old, of what, how large, what is
proven of each and since when, and how many copies of it are whole.`,
		Example: `  pgmedic list
  pgmedic list --database clinic --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.list(cmd.Context(), catalog.Filter{Server: a.cfg.Server, Database: database})
		},
	}
	addStore(cmd)
	addSetting(cmd, "server", "server", "only backups filed under this server's name")
	cmd.Flags().StringVar(&database, "database", "", "only backups of this database")
	return cmd
}

func (a *app) list(ctx context.Context, f catalog.Filter) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	listing, err := c.List(ctx, f)
	if err != nil {
		return err
	}
	if a.global.json {
		rows := make([]backupRow, 0, len(listing.Entries))
		for _, e := range listing.Entries {
			rows = append(rows, rowOf(e))
		}
		return a.printJSON(map[string]any{"backups": rows, "damaged": orEmpty(listing.Damaged), "orphans": orEmpty(listing.Orphans)})
	}
	if a.global.quiet {
		for _, e := range listing.Entries {
			a.printf("%s\n", e.Backup.ID)
		}
		return nil
	}
	a.printListing(listing, c)
	return nil
}

func (a *app) printListing(listing catalog.Listing, c *catalog.Catalog) {
	p := a.paint(a.stdoutTTY)
	if len(listing.Entries) == 0 {
		a.printf("no backups in %s; take one: pgmedic backup\n", render.Clean(location(c)))
	} else {
		a.printf("%s", a.backupTable(listing.Entries))
	}
	for _, d := range listing.Damaged {
		a.printf("%s %s\n", p.bad("damaged:"), render.Clean(d.Reason))
	}
	if n := len(listing.Orphans); n > 0 {
		var size int64
		for _, o := range listing.Orphans {
			size += o.SizeBytes
		}
		a.printf("%s\n", p.dim(fmt.Sprintf("%d without a manifest, %s: runs that never finished, or are going on", n, render.Bytes(size))))
	}
}

// wideTable is how many columns of a terminal the whole table of backups needs.
const wideTable = 120

func (a *app) backupTable(entries []catalog.Entry) string {
	if columns := a.stdoutWidth(); a.stdoutTTY && columns > 0 && columns < wideTable {
		return a.narrowTable(entries, columns)
	}
	now := a.now()
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		r := rowOf(e)
		proof := string(r.Proof.State)
		if r.Proof.State != pgmedic.ProofTaken {
			proof += " " + render.Ago(now, r.Proof.At)
		}
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
		rows = append(rows, []string{r.ID, render.Ago(now, r.SnapshotAt), r.Server, r.Database, render.Bytes(r.StoredBytes),
			ratio, method, proof, fmt.Sprintf("%d of %d", r.Copies.Complete, r.Copies.Wanted)})
	}
	return render.Table([]string{"ID", "AGE", "SERVER", "DATABASE", "SIZE", "RATIO", "METHOD", "PROOF", "COPIES"}, rows,
		render.TableOptions{Right: []int{4, 5}, Color: a.paint(a.stdoutTTY).on})
}

// narrowTable leaves out what show tells as well.
func (a *app) narrowTable(entries []catalog.Entry, columns int) string {
	now := a.now()
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		r := rowOf(e)
		proof := string(r.Proof.State)
		if r.Proof.State != pgmedic.ProofTaken {
			proof += " " + render.Ago(now, r.Proof.At)
		}
		if r.Purpose == pgmedic.PurposeSafety {
			proof += ", safety"
		}
		if r.Partial {
			proof += ", partial"
		}
		rows = append(rows, []string{r.ID, render.Ago(now, r.SnapshotAt), r.Database, render.Bytes(r.StoredBytes), proof})
	}
	return render.Table([]string{"ID", "AGE", "DATABASE", "SIZE", "PROOF"}, rows,
		render.TableOptions{Width: columns, Shrink: []int{2}, Right: []int{3}, Color: a.paint(true).on})
}

// orEmpty makes JSON's [] of a nil slice.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
