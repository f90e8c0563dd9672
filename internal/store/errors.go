package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/pgmedic/pgmedic"
)

// NotFound returns the error of op for a key that isn't there.
func NotFound(op, key string) error {
	return pgmedic.Errorf(pgmedic.KindNotFound, "", "%s %s: %w", op, key, ErrNotFound)
}

// Exists returns the error of a put for a key that is taken.
func Exists(key string) error {
	return pgmedic.Errorf(pgmedic.KindConflict, "", "put %s: %w", key, ErrExists)
}

// Ended returns nil while ctx lives, then its cause with the kind that Store
// promises.
func Ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(ctx)
	var e *pgmedic.Error
	if errors.As(cause, &e) {
		return cause
	}
	return &pgmedic.Error{Kind: pgmedic.KindInterrupted, Err: cause}
}

// ReadFailed returns the error of a Put whose reader failed with err. When ctx
// has ended that is the reason and comes first: the reader most likely failed
// because of it, in words that explain less ("signal: killed").
func ReadFailed(ctx context.Context, err error) error {
	if cause := Ended(ctx); cause != nil {
		if errors.Is(err, context.Cause(ctx)) {
			return cause
		}
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// failed returns the error of op on key, or on the whole folder where key is
// empty, sorted by what can be done about err, which the file system returned.
func failed(op, key, dir string, err error) error {
	// The path in an fs.PathError repeats the key; os.LinkError likewise.
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	kind := pgmedic.KindUnreachable
	hint := fmt.Sprintf("check that %s is mounted and healthy; the system's log may say more", dir)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = pgmedic.KindFailed
		hint = fmt.Sprintf("free space on %s, or raise the quota (look at inodes, too: df -i)", dir)
	case errors.Is(err, syscall.EFBIG):
		kind = pgmedic.KindFailed
		hint = fmt.Sprintf("raise the limit on file sizes (ulimit -f), or use a file system on %s that can hold larger files; if neither is the cause, free space", dir)
	case errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("let the user who runs pgmedic read and write all of %s (it runs as uid %d)", dir, os.Getuid())
	case errors.Is(err, syscall.EROFS):
		hint = fmt.Sprintf("%s is mounted read-only; remount it writable", dir)
	}
	if key != "" {
		op += " " + key
	}
	return pgmedic.Errorf(kind, hint, "%s: %w", op, err)
}
