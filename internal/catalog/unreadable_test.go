package catalog_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/store"
)

// unreadable is a store in which this user can't read some folders, as if another user had
// made them.
type unreadable struct {
	store.Store
	folder string
}

func (u unreadable) Folders(ctx context.Context, folder string) iter.Seq2[string, error] {
	if strings.HasPrefix(folder, u.folder) {
		return func(yield func(string, error) bool) {
			yield("", &fs.PathError{Op: "open", Path: folder, Err: fs.ErrPermission})
		}
	}
	return func(yield func(string, error) bool) {
		for found, err := range u.Store.Folders(ctx, folder) {
			if !yield(found, err) {
				return
			}
		}
		if strings.HasPrefix(u.folder, folder) {
			yield(u.folder, nil)
		}
	}
}

// TestUnreadableAnchors: the anchors of another user's audit log keep no backup from being
// listed; any other folder that can't be read does.
func TestUnreadableAnchors(t *testing.T) {
	for folder, readable := range map[string]bool{"audit/": true, "db1/": false} {
		s := newFixture(t).Store()
		_, err := catalog.New(unreadable{s, folder}).List(t.Context(), catalog.Filter{})
		if (err == nil) != readable || err != nil && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", folder, err)
		}
	}
	if _, err := catalog.New(unreadable{newFixture(t).Store(), "audit/"}).List(t.Context(), catalog.Filter{Server: "audit"}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a server that was asked for, and can't be read: %v", err)
	}
}
