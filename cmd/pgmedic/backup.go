package main

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/render"
)

type backupFlags struct{ labels []string }

func (a *app) backupCommand() *cobra.Command {
	var flags backupFlags
	cmd := &cobra.Command{
		Use:   "backup [DATABASE…]",
		Short: "Take a backup",
		Long: `Takes a backup of each database named, or of the configured one, and prints its
id. The rows are those of one moment; nothing is stopped. A run that fails or is
interrupted leaves no backup. Where copies are configured it is then copied, when
the database is no longer held; a copy that fails leaves the backup (exit code 15),
and pgmedic copy completes it.`,
		Example: `  pgmedic backup
  pgmedic backup clinic --label release=4.2
  id=$(pgmedic backup --quiet) && pgmedic drill "$id"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.backup(cmd.Context(), args, flags)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addSetting(cmd, "method", "backup.method", "how it is taken: plain or parallel")
	addSetting(cmd, "jobs", "backup.jobs", "connections for rows, for parallel (default: one for each processor)")
	addSetting(cmd, "compression", "backup.compression", "gzip, zstd or none")
	addSetting(cmd, "lock-timeout", "backup.lock_timeout", "longest wait for a lock on a table")
	addSetting(cmd, "max-duration", "backup.max_duration", "end a backup that takes longer; 0 is no limit")
	cmd.Flags().StringArrayVar(&flags.labels, "label", nil, "label to give it, as key=value; may be repeated")
	return cmd
}

func (a *app) backup(ctx context.Context, databases []string, flags backupFlags) error {
	if err := a.prepareBackup(); err != nil {
		return err
	}
	labels, err := mergeLabels(a.cfg.Backup.Labels, flags.labels)
	if err != nil {
		return err
	}
	if len(databases) == 0 {
		databases = []string{""}
	}
	c, closed, err := a.makeCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	rows, problem := []backupRow{}, error(nil)
	for _, name := range databases {
		t, err := a.databaseTarget(name)
		if err != nil {
			return err
		}
		o := a.backupOptions(t, c)
		o.Labels = labels
		listen, done := a.progress()
		o.Progress = listen
		b, err := backup.Take(ctx, o)
		done()
		if err != nil {
			return errors.Join(err, problem)
		}
		if !a.global.json {
			a.printBackup(b, c)
		}
		row := rowOf(catalog.Entry{Backup: b, Keys: len(o.Wraps)})
		if row.Copies, err = a.copyTaken(ctx, c, b); err != nil {
			problem = errors.Join(problem, err)
		}
		rows = append(rows, row)
		if ctx.Err() != nil {
			break
		}
	}
	if a.global.json {
		if err := a.printJSON(map[string]any{"backups": rows}); err != nil {
			return err
		}
	}
	return problem
}

func (a *app) printBackup(b *pgmedic.Backup, c *catalog.Catalog) {
	if a.global.quiet {
		a.printf("%s\n", b.ID)
		return
	}
	a.printf("%s %s in %s\n", a.paint(a.stdoutTTY).good("backed up"), render.Clean(b.Database.Name),
		render.Duration(b.FinishedAt.Sub(b.StartedAt)))
	a.fields("id", b.ID, "size", sizeWords(b), "rows", rowWords(b), "in", location(c), "next", "pgmedic drill "+b.ID)
}

func sizeWords(b *pgmedic.Backup) string {
	plain := plainBytes(b)
	words := render.Bytes(b.StoredBytes())
	if plain > b.StoredBytes() {
		words += " stored, " + render.Bytes(plain) + " as SQL"
	}
	return words
}

func rowWords(b *pgmedic.Backup) string {
	return render.Count(b.Rows()) + " in " + render.Count(int64(len(b.Tables))) + " tables"
}

func plainBytes(b *pgmedic.Backup) int64 {
	var n int64
	for _, o := range b.Objects {
		n += o.PlainBytes
	}
	return n
}

func mergeLabels(configured map[string]string, given []string) (map[string]string, error) {
	labels := maps.Clone(configured)
	for _, kv := range given {
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "write it as --label key=value", "label %q has no value", kv)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	return labels, nil
}
