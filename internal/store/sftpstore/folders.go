package sftpstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// Folders yields the folders directly below folder, which is empty or ends in a slash:
// each string that is folder, then one segment, then a slash, and that some key begins
// with, in byte order. It reads the folder itself, and in each folder below it only until
// the first key is found.
func (s *Store) Folders(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		top, slash := strings.CutSuffix(folder, "/")
		if folder == "" {
			top = "."
		} else if err := store.CheckKey(top); err != nil || !slash {
			yield("", pgmedic.Errorf(pgmedic.KindUsage, "", "list: %.100q is not a folder", folder))
			return
		}
		var stop bool
		err := s.walkFrom(ctx, top, func(e entry) (descend bool, err error) {
			if !e.isDir {
				return false, nil
			}
			found, err := s.holdsKey(ctx, e.key)
			if found && !yield(e.key+"/", nil) {
				stop = true
				return false, fs.SkipAll
			}
			return false, err
		})
		if stop {
			return
		}
		if err == nil {
			if err = s.gone(ctx); err != nil {
				err = s.failed(ctx, "list", "", err)
			}
		}
		if err != nil {
			yield("", err)
		}
	}
}

// holdsKey reports whether a key lies below folder, or may: one that is unreadable to this user.
func (s *Store) holdsKey(ctx context.Context, folder string) (bool, error) {
	found := false
	err := s.walk(ctx, folder, func(e entry) (bool, error) {
		if !e.isDir && store.CheckKey(e.key) == nil {
			found = true
			return false, fs.SkipAll
		}
		return true, nil
	})
	if found || errors.Is(err, fs.ErrPermission) { // the caller may have no use for it
		return true, nil
	}
	return false, err
}
