package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/cleanup"
	"github.com/pgmedic/pgmedic/internal/monitor/history"
	"github.com/pgmedic/pgmedic/internal/words"
)

// cleanupCommand removes files of pgmedic's own that nothing needs any more.
type cleanupCommand struct {
	job
	reports reportCommand

	dryRun bool
	done   cleanupResult
}

// cleanupResult is what cleanup prints as JSON.
type cleanupResult struct {
	// Ran is true where the plan was carried out.
	Ran   bool           `json:"ran"`
	Items []cleanup.Item `json:"items"`
	// HistoryReadings is how many readings of the history of reports are, or were,
	// thinned out.
	HistoryReadings int `json:"history_readings"`
	// Unread says what could not be checked.
	Unread     []string `json:"unread"`
	FreedBytes int64    `json:"freed_bytes"`
}

func cleanupCLI(e *env) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Delete old logs and reports, and what runs that were killed left on this machine",
		Long: `Prints what would be deleted and why, and changes nothing unless --yes is given, or the
question is answered on a terminal. With -q it prints the names of what it deleted.

Rotated logs older than log.keep, and reports in report.dir older than report.keep;
the newest of each always stays. Unfinished files older than a day, in those folders and in
stores that are folders here. Folders and throwaway servers of runs that are dead. Readings
in the history of reports that its rules do not keep. Only names that pgmedic gives, and
only regular files; no link is followed. Rotated logs that are not compressed yet are
compressed.

Backups are deleted by pgmedic prune alone. The exit code is 15 if something could not be
checked or deleted.`,
		Example: `  pgmedic cleanup
  pgmedic cleanup --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &cleanupCommand{job: j, reports: reportCommand{job: j}, dryRun: dryRun}
			return command.run(cmd.Context())
		},
	}
	withoutSecrets(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would go, and change nothing, whatever --yes says")
	return cmd
}

// options are those of the configuration.
func (cmd *cleanupCommand) options() cleanup.Options {
	c := cmd.cfg
	o := cleanup.Options{
		Log: c.Log.File, LogKeep: c.Log.Keep, Reports: c.Report.Dir, ReportKeep: c.Report.Keep, TempAge: deadAfter, TempDir: os.TempDir(), Now: cmd.now,
	}
	if c.Drill.ScratchDir != "" {
		o.ScratchDirs = []string{c.Drill.ScratchDir}
	}
	for _, s := range c.Stores() {
		if dir := s.Place.Dir; dir != "" && !slices.Contains(o.Stores, dir) {
			o.Stores = append(o.Stores, dir)
		}
	}
	return o
}

func (cmd *cleanupCommand) run(ctx context.Context) error {
	o := cmd.options()
	cmd.done.Items, cmd.done.Unread = cleanup.Plan(o)
	if n, err := cmd.thin(ctx, true); err != nil {
		cmd.done.Unread = append(cmd.done.Unread, "history of reports: "+words.OneLine(err.Error()))
	} else {
		cmd.done.HistoryReadings = n
	}
	shown := false
	switch wet := !cmd.dryRun && (cmd.global.yes || cmd.stdinTTY); {
	case !wet:
		cmd.trail.forget()
	case !cmd.changes():
		cmd.trail.nothingToDo()
	default:
		if !cmd.global.yes {
			cmd.printItems()
			shown = true
			if err := cmd.confirm(ctx, "Delete what is marked so?", "cleanup"); err != nil {
				return err
			}
		}
		if err := cmd.trail.intend(ctx, act{params: map[string]string{"readings": strconv.Itoa(cmd.done.HistoryReadings)}, lists: map[string][]string{"delete": cmd.paths(false)}}); err != nil {
			return err
		}
		cmd.apply(ctx, o)
		cmd.trail.about(act{params: map[string]string{"readings": strconv.Itoa(cmd.done.HistoryReadings)}, lists: map[string][]string{"deleted": cmd.paths(true)}})
	}
	if err := cmd.print(shown && !cmd.done.Ran); err != nil {
		return err
	}
	return errors.Join(context.Cause(ctx), cmd.verdict())
}

// changes reports whether there is something to do.
func (cmd *cleanupCommand) changes() bool {
	return cmd.done.HistoryReadings > 0 || slices.ContainsFunc(cmd.done.Items, func(i cleanup.Item) bool { return i.Action != cleanup.Keep })
}

// paths are the files that are to be deleted, or that were.
func (cmd *cleanupCommand) paths(done bool) (all []string) {
	for _, i := range cmd.done.Items {
		if i.Action == cleanup.Delete && (i.Done || !done) {
			all = append(all, i.Path)
		}
	}
	return all
}

// apply carries the plan out.
func (cmd *cleanupCommand) apply(ctx context.Context, o cleanup.Options) {
	cmd.done.Ran = true
	cleanup.Apply(ctx, o, cmd.done.Items)
	for _, i := range cmd.done.Items {
		if i.Done && i.Action == cleanup.Delete {
			cmd.done.FreedBytes += i.SizeBytes
			cmd.log.Info("deleted", "kind", string(i.Kind), "path", i.Path, "bytes", i.SizeBytes)
		}
	}
	if cmd.done.HistoryReadings == 0 || ctx.Err() != nil {
		return
	}
	n, err := cmd.thin(ctx, false)
	cmd.done.HistoryReadings = n
	if err != nil {
		cmd.done.Unread = append(cmd.done.Unread, "history of reports: "+words.OneLine(err.Error()))
	}
}

// thin thins the history of reports out, or says how many readings that would drop.
func (cmd *cleanupCommand) thin(ctx context.Context, dryRun bool) (n int, err error) {
	if cmd.cfg.Report.History == historyOff {
		return 0, nil
	}
	path, err := cmd.reports.historyPath()
	if err != nil {
		return 0, nil //nolint:nilerr // there is no place for one
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	h, err := history.Open(ctx, history.Options{Path: path, ReadOnly: dryRun, Now: cmd.now})
	if err != nil {
		return 0, err
	}
	if dryRun {
		n, err = h.Superfluous(ctx)
	} else {
		n, err = h.ThinAll(ctx)
	}
	return n, errors.Join(err, h.Close())
}

// verdict is the error of a run that left something undone.
func (cmd *cleanupCommand) verdict() error {
	failed := 0
	for _, i := range cmd.done.Items {
		if i.Error != "" {
			failed++
		}
	}
	const hint = "see what is said of each, and run it as the user that pgmedic runs as"
	switch {
	case failed > 0:
		return pgmedic.Errorf(pgmedic.KindDegraded, hint, "%s not cleaned up", wasWere(failed, "thing", "things"))
	case len(cmd.done.Unread) > 0:
		return pgmedic.Errorf(pgmedic.KindDegraded, hint, "%s not checked", wasWere(len(cmd.done.Unread), "place", "places"))
	}
	return nil
}

// print prints what was done, or the plan where nothing was.
func (cmd *cleanupCommand) print(shown bool) error {
	d := cmd.done
	switch {
	case cmd.global.json:
		d.Items, d.Unread = orEmpty(d.Items), orEmpty(d.Unread)
		return cmd.printJSON(d)
	case cmd.global.quiet:
		for _, i := range d.Items {
			if i.Done && i.Action == cleanup.Delete {
				cmd.printf("%s\n", words.Clean(i.Path))
			}
			if i.Error != "" {
				fmt.Fprintf(cmd.stderr, "%s: %s\n", words.Clean(i.Path), words.OneLine(i.Error))
			}
		}
		for _, u := range d.Unread {
			fmt.Fprintf(cmd.stderr, "not checked: %s\n", words.OneLine(u))
		}
		return nil
	case !shown:
		cmd.printItems()
	}
	switch {
	case d.Ran:
		cmd.wrapf("freed %s\n", words.Bytes(d.FreedBytes))
	case !cmd.changes():
		cmd.wrapf("there is nothing to clean up\n")
	case !cmd.dryRun:
		cmd.wrapf("nothing was changed; --yes does it\n")
	}
	return nil
}

// printItems prints what goes, what went, and what could not.
func (cmd *cleanupCommand) printItems() {
	paint, d := cmd.paint(cmd.stdoutTTY), cmd.done
	for _, i := range d.Items {
		word := paint.dim(fmt.Sprintf("%-10s", i.Action))
		switch {
		case i.Error != "":
			word = paint.bad(fmt.Sprintf("%-10s", "failed"))
		case i.Done:
			word = paint.good(fmt.Sprintf("%-10s", map[cleanup.Action]string{cleanup.Delete: "deleted", cleanup.Compress: "compressed"}[i.Action]))
		case i.Action != cleanup.Keep:
			word = paint.warn(fmt.Sprintf("%-10s", i.Action))
		}
		reason := i.Reason
		if i.Error != "" {
			reason = i.Error
		}
		cmd.wrapf("%s  %s  %s: %s\n", word, words.Clean(i.Path), words.Bytes(i.SizeBytes), words.OneLine(reason))
	}
	if d.HistoryReadings > 0 {
		word := "would be"
		if d.Ran {
			word = "were"
		}
		cmd.wrapf("%s of the history of reports %s thinned out\n", words.Plural(int64(d.HistoryReadings), "reading"), word)
	}
	for _, u := range d.Unread {
		cmd.wrapf("%s  %s\n", paint.warn("not checked"), words.OneLine(u))
	}
}
