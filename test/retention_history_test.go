package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
)

// older files a backup again, as one that was taken so many hours before it: whole, with
// an id and a manifest of its own. The backup is not encrypted.
func older(folder, id string, hours int) (string, error) {
	return olderEncrypted(folder, id, hours, "")
}

// olderEncrypted is older of a backup that a passphrase opens, and then the older one.
func olderEncrypted(folder, id string, hours int, phrase string) (string, error) {
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
	mac, err := rekey(ctx, c, e.Backup, &b, phrase)
	if err != nil {
		return "", err
	}
	return b.ID, c.Commit(ctx, &b, mac)
}

// rekey files the keys of a backup again as those of another, and returns what authenticates
// the other's manifest: nothing without a passphrase.
func rekey(ctx context.Context, c *catalog.Catalog, from, to *pgmedic.Backup, phrase string) (func([]byte) (string, error), error) {
	if phrase == "" {
		return nil, nil
	}
	with, err := seal.PassphraseIdentity(phrase)
	if err != nil {
		return nil, err
	}
	wraps, err := c.Keys(ctx, from)
	if err != nil {
		return nil, err
	}
	var key *seal.Key
	for _, w := range wraps {
		if err := c.AddKey(ctx, to, w.Name, w.Data); err != nil {
			return nil, err
		}
		if key == nil {
			if key, err = seal.OpenKey(w.Data, []age.Identity{with}); err != nil {
				return nil, err
			}
		}
	}
	if key == nil {
		return nil, errors.New("no key that the passphrase opens")
	}
	return key.MAC, nil
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
