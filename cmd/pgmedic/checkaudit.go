package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/words"
)

const hintWritable = "make it writable for this user, or name another with audit.file"

// checkAudit checks that the next dangerous command can be recorded, without which it is
// refused. It writes nothing: a log that has not begun is judged by its folder.
func (cmd *checkCommand) checkAudit(ctx context.Context, l *checklist) {
	const name = "audit log"
	if cmd.cfg.Audit.File == config.AuditOff {
		l.add(name, pgmedic.OutcomeSkipped, "off ("+cmd.cfg.Origin("audit.file").String()+")", "")
		return
	}
	log, err := cmd.auditLog()
	var head pgmedic.AuditAnchor
	begun := false
	if err == nil {
		head, begun, err = log.Head(ctx, "")
	}
	if err == nil && ctx.Err() == nil {
		err = canAppend(log, begun)
	}
	switch {
	case ctx.Err() != nil:
	case noPlace(cmd.cfg.Audit, err):
		l.add(name, pgmedic.OutcomeWarn, words.OneLine(err.Error())+": dangerous commands are refused, and no other is recorded", hintAuditFile)
	case err != nil:
		l.fail(name, pgmedic.Errorf(pgmedic.KindOf(err), cmp.Or(pgmedic.HintOf(err), hintWritable), "%w", err))
	case !begun:
		l.ok(name, "%s, which the first command that changes something begins", log.Path())
	default:
		l.ok(name, "%s, %s records", log.Path(), pgmedic.Count(head.Seq))
	}
}

// canAppend finds out, and writes nothing, whether a record can be added to the log: one
// that has not begun is judged by its folder and that of its key.
func canAppend(log *audit.Log, begun bool) error {
	if begun {
		if err := unix.Access(log.Path(), unix.W_OK); err != nil {
			return pgmedic.Errorf(pgmedic.KindUsage, hintWritable, "%s is not writable: %w", log.Path(), err)
		}
		return nil
	}
	paths := []string{log.Path()}
	// Head has read no key, since there is nothing to authenticate.
	switch _, err := audit.ReadKey(log.KeyPath()); {
	case errors.Is(err, fs.ErrNotExist):
		paths = append(paths, log.KeyPath())
	case err != nil:
		return err
	}
	for _, path := range paths {
		folder := nearestFolder(filepath.Dir(path))
		if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
			return pgmedic.Errorf(pgmedic.KindUsage, hintWritable, "%s can't be made: folder %s is not writable: %w", path, folder, err)
		}
	}
	return nil
}
