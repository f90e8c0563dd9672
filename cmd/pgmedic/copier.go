package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/words"
)

// copyAll copies backups to one place. What is wrong with one of them does not
// keep the others from being copied, unless the place can't be reached.
func (cp copier) copyAll(ctx context.Context, from *catalog.Catalog, target config.Copy, entries []catalog.Entry, tell bool) (rows []copyRow, problem error) {
	to, closed, err := cp.stores.openPlace(ctx, target.Place(), target.Access, false)
	if err != nil {
		return nil, fmt.Errorf("open copy store %s: %w", target.Name, err)
	}
	defer closed()
	if entries, err = withParents(ctx, from, to, entries); err != nil {
		return nil, err
	}
	failed := map[string]bool{}
	for _, e := range entries {
		copied, err := catalog.Copied{}, parentFailed(e, failed)
		if err == nil {
			copied, err = cp.copyEntry(ctx, from, to, e)
		}
		failed[e.Backup.ID] = err != nil
		row := copyRow{ID: e.Backup.ID, To: target.Name, Store: location(to), Copied: copied}
		if err != nil {
			row.Error = words.OneLine(err.Error())
			problem = errors.Join(problem, err)
		}
		rows = append(rows, row)
		if tell {
			cp.printCopy(row)
		}
		if kind := pgmedic.KindOf(err); err != nil && (ctx.Err() != nil || kind == pgmedic.KindUnreachable) {
			break
		}
	}
	return rows, problem
}

// copyEntry copies one backup. What was edited since it was sealed is not handed on
// by a host that can tell.
func (cp copier) copyEntry(ctx context.Context, from, to *catalog.Catalog, e catalog.Entry) (catalog.Copied, error) {
	b, _, err := cp.keys.wholeBackup(ctx, from, e)
	if err != nil {
		return catalog.Copied{}, err
	}
	trusted, err := trustedSigners(cp.cfg)
	if err != nil {
		return catalog.Copied{}, err
	}
	listen, done := cp.progress()
	defer done()
	return from.CopyTo(ctx, catalog.CopyOptions{To: to, Backup: b, Trusted: trusted, Jobs: min(cp.cfg.Backup.Jobs, maxCopyJobs), Progress: listen})
}

// maxCopyJobs bounds what copies hold in memory: some 24 MiB for each in S3.
const maxCopyJobs = 8

func (cp copier) printCopy(r copyRow) {
	if cp.global.json || r.Error != "" { // which is printed once, as the error of the run
		return
	}
	if cp.global.quiet {
		cp.printf("%s\n", r.ID)
		return
	}
	phrase := words.Plural(r.Copied.Copied, "object") + ", " + words.Bytes(r.CopiedBytes)
	switch {
	case r.Copied.Copied == 0:
		phrase = "was whole"
	case r.Kept > 0:
		phrase += fmt.Sprintf("; %d were there", r.Kept)
	}
	cp.wrapf("%s %s to %s: %s\n", cp.paint(cp.stdoutTTY).good("copied"), r.ID, words.Clean(r.Store), phrase)
}

// copyTaken copies a backup that was just taken to each configured copy. The
// backup stands whatever comes of that: what failed is of KindDegraded.
func (cp copier) copyTaken(ctx context.Context, from *catalog.Catalog, b *pgmedic.Backup) (copiesRow, error) {
	row := copiesRow{Complete: 1, Wanted: 1 + len(cp.cfg.Copies)}
	var problem error
	for _, target := range cp.cfg.Copies {
		entries := []catalog.Entry{{Backup: b}}
		_, err := cp.copyWAL(ctx, from, target, entries, false)
		if err == nil {
			_, err = cp.copyAll(ctx, from, target, entries, !cp.global.quiet)
		}
		switch {
		case err == nil:
			row.Complete++
		case ctx.Err() != nil:
			return row, errors.Join(problem, context.Cause(ctx))
		default:
			hint := "`pgmedic copy " + b.ID + "` completes the copy"
			if cause := pgmedic.HintOf(err); cause != "" {
				hint = cause + "; then " + hint
			}
			problem = errors.Join(problem, pgmedic.Errorf(pgmedic.KindDegraded, hint,
				"backup %s is taken, and its copy is not whole: %w", b.ID, err))
		}
	}
	return row, problem
}
