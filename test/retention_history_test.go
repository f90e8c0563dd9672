package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/store"
)

// older files a backup again, as one that was taken so many hours before it: whole, with
// an id and a manifest of its own. The backup is not encrypted.
func older(folder, id string, hours int) (string, error) {
	ctx := context.Background()
	s, err := store.NewLocal(store.LocalOptions{Dir: folder, MustExist: true})
	if err != nil {
		return "", err
	}
	defer s.Close()
	c := catalog.New(s)
	e, err := c.Get(ctx, id, catalog.Filter{})
	if err != nil {
		return "", err
	}
	b := *e.Backup
	for _, at := range []*time.Time{&b.StartedAt, &b.SnapshotAt, &b.FinishedAt} {
		*at = at.Add(-time.Duration(hours) * time.Hour)
	}
	b.ID = catalog.NewID(b.StartedAt)
	for _, o := range b.Objects {
		if err := refile(ctx, s, catalog.Key(e.Backup, o.Name), catalog.Key(&b, o.Name)); err != nil {
			return "", err
		}
	}
	return b.ID, c.Commit(ctx, &b, nil)
}

func refile(ctx context.Context, s store.Store, from, to string) error {
	r, err := s.Open(ctx, from, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, err = s.Put(ctx, to, bytes.NewReader(data))
	return err
}

// olderCommand sets variables to the ids of backups that are older than one, by hours:
// older ID NAME=HOURS…; without a name the id is in no variable.
func olderCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, arg := range args[1:] {
		name, text, _ := strings.Cut(arg, "=")
		hours, err := strconv.Atoi(text)
		ts.Check(err)
		id, err := older(ts.Getenv("BACKUP_DIR"), args[0], hours)
		ts.Check(err)
		if name != "" {
			ts.Setenv(name, id)
		}
	}
}

// history takes a backup, and files it again as older ones, by days.
func (b *bench) history(days ...int) (newest string, old []string) {
	b.t.Helper()
	newest = b.backup()
	for _, d := range days {
		id, err := older(b.store, newest, 24*d)
		if err != nil {
			b.t.Fatal(err)
		}
		old = append(old, id)
	}
	return newest, old
}

// folderOf is the folder of a backup in a local store, or empty.
func folderOf(t *testing.T, store, id string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(store, "*", "*", id))
	if err != nil || len(found) > 1 {
		t.Fatal(fmt.Sprint(found, err))
	}
	return strings.Join(found, "")
}

func idsIn(out string) []string {
	ids := strings.Fields(out)
	slices.Sort(ids)
	return ids
}
