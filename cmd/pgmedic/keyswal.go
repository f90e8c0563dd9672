package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// epochRef is an epoch of WAL, whose ways to open it are listed and changed as those of a
// backup are.
type epochRef struct {
	server string
	a      *archive.Archive
	id     string
	info   archive.EpochInfo
	// encrypted is an object of it that is, if there is any.
	encrypted archive.Object
	wraps     []archive.StoredWrap
}

// epochsIn finds the epochs in a store, or the one of an id.
func epochsIn(ctx context.Context, s store.Store, id string) (all []*epochRef, err error) {
	servers, err := walServers(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, server := range servers {
		archives, err := walArchives(ctx, s, server)
		if err != nil {
			return nil, err
		}
		for _, a := range archives {
			ids, err := a.Epochs(ctx)
			if err != nil {
				return nil, err
			}
			for _, one := range ids {
				if id == "" || one == id {
					all = append(all, &epochRef{server: server, a: a, id: one})
				}
			}
		}
	}
	return all, nil
}

// read reads what is needed of an epoch.
func (e *epochRef) read(ctx context.Context) (err error) {
	if e.info, err = e.a.Epoch(ctx, e.id); err != nil {
		return err
	}
	if e.wraps, err = e.a.Wraps(ctx, e.id); err != nil {
		return err
	}
	e.encrypted, err = e.a.Encrypted(ctx, e.id, wal.SegmentSize(e.info.SegmentBytes))
	return err
}

func (e *epochRef) wrap(name string) []byte {
	for _, w := range e.wraps {
		if w.Name == name {
			return w.Data
		}
	}
	return nil
}

func (e *epochRef) row() keysRow {
	return keysRow{ID: e.id, Database: "WAL of " + e.server, WAL: true, Keys: []keyRow{}, Encrypted: len(e.wraps) > 0}
}

// entryOrEpoch finds the backup that is meant, or, by its whole id, an epoch of WAL.
func (b backups) entryOrEpoch(ctx context.Context, c *catalog.Catalog, args []string) (e catalog.Entry, epochs []*epochRef, err error) {
	e, err = b.get(ctx, c, args)
	if pgmedic.KindOf(err) != pgmedic.KindNotFound || err == nil || len(args) != 1 || !archive.IsEpoch(args[0]) {
		return e, nil, err
	}
	epochs, epochErr := epochsIn(ctx, c.Store(), args[0])
	if epochErr != nil || len(epochs) == 0 {
		return e, nil, errors.Join(err, epochErr)
	}
	return e, epochs, nil
}

// epochKeys lists the ways to open an epoch. A key opens it only if it opens what is in it.
func (kr keyring) epochKeys(ctx context.Context, e *epochRef) (keysRow, error) {
	if err := e.read(ctx); err != nil {
		return e.row(), err
	}
	row := e.row()
	with, err := kr.identities()
	if err != nil {
		return row, err
	}
	public := kr.publicKeys(with)
	passphrases := 0
	for _, w := range e.wraps {
		k := keyRow{Name: w.Name, Kind: seal.KindOfWrap(w.Data), PublicKey: public[w.Name]}
		if k.Kind == seal.WrapPassphrase {
			passphrases++
		}
		if key, err := seal.OpenKey(w.Data, with); len(with) > 0 && err == nil && passphrases <= maxPassphrases {
			k.Opens = true
			if e.encrypted.Key != "" {
				if err := e.a.Fits(ctx, e.encrypted, key); pgmedic.KindOf(err) == pgmedic.KindIntegrity && err != nil {
					k.Opens, k.Odd = false, "does not open what is stored"
				} else if err != nil {
					return row, err
				}
			}
		}
		row.Keys = append(row.Keys, k)
	}
	slices.SortFunc(row.Keys, func(x, y keyRow) int { return strings.Compare(x.Name, y.Name) })
	return row, nil
}

// changeEpoch does a change to one epoch. With --all, epochs that it is not about are
// skipped.
func (cmd *keysChangeCommand) changeEpoch(ctx context.Context, e *epochRef) (row keysRow, err error) {
	row = e.row()
	skip := func(hint, why string) (keysRow, error) {
		row.Skipped = why
		if cmd.change.all {
			return row, nil
		}
		return row, pgmedic.Errorf(pgmedic.KindNotFound, hint, "epoch %s of the WAL: %s", e.id, why)
	}
	err = e.read(ctx)
	row = e.row()
	switch {
	case errors.Is(err, store.ErrNotFound):
		return skip("its writer was killed, or begins it now", "no epoch.json")
	case err != nil:
		return row, err
	case !row.Encrypted:
		return skip("only WAL that is encrypted has keys", "not encrypted")
	case cmd.change.remove != "" && e.wrap(cmd.change.remove) == nil:
		return skip("pgmedic keys list "+e.id+" shows those that it has", fmt.Sprintf("no key %q", cmd.change.remove))
	case cmd.change.add != nil && e.encrypted.Key == "":
		return skip("run it again when WAL is stored in it", "nothing is stored in it yet by which its key could be checked")
	}
	if cmd.change.add != nil {
		if row.Added, err = cmd.addEpochKey(ctx, e, *cmd.change.add); err != nil {
			return row, err
		}
	}
	if cmd.change.remove != "" {
		if err = removeEpochKey(ctx, e, cmd.change.remove, row.Added); err != nil {
			return row, err
		}
		row.Removed = cmd.change.remove
	}
	now, err := cmd.keys.epochKeys(ctx, e)
	row.Keys = now.Keys
	return row, err
}

// addEpochKey wraps the epoch's key once more, unless it is wrapped to the same already.
func (cmd *keysChangeCommand) addEpochKey(ctx context.Context, e *epochRef, way newWay) (string, error) {
	key, err := cmd.keys.openWAL(e.id, e.wraps)
	if err == nil && key == nil {
		err = pgmedic.Errorf(pgmedic.KindUsage, "set backup.identity_files (PGMEDIC_IDENTITY_FILES) or backup.encryption_key (BACKUP_ENCRYPTION_KEY)",
			"epoch %s of the WAL is encrypted and this host has no key", e.id)
	}
	if err != nil {
		return "", err
	}
	// A wrap that somebody planted must not be passed on.
	if err := e.a.Fits(ctx, e.encrypted, key); err != nil {
		return "", err
	}
	name := way.name
	for n := 2; e.wrap(name) != nil; n++ {
		if way.with == nil {
			return name, nil // the name is that of the public key
		}
		if _, err := seal.OpenKey(e.wrap(name), []age.Identity{way.with}); err == nil {
			return name, nil
		}
		name = fmt.Sprintf("%s-%d", way.name, n)
	}
	wrapped, err := key.Wrap(way.to)
	if err == nil {
		err = e.a.AddWrap(ctx, e.id, name, wrapped)
	}
	if err != nil {
		return "", err
	}
	e.wraps = append(e.wraps, archive.StoredWrap{Name: name, Data: wrapped})
	return name, nil
}

// removeEpochKey removes a wrap if another one is left that looks like one.
func removeEpochKey(ctx context.Context, e *epochRef, name, added string) error {
	beside := func(wraps []archive.StoredWrap) bool {
		return slices.ContainsFunc(wraps, func(w archive.StoredWrap) bool { return w.Name != name && seal.KindOfWrap(w.Data) != seal.WrapUnknown })
	}
	switch {
	case name == added:
		return pgmedic.Errorf(pgmedic.KindUsage, "name another key to add", "epoch %s of the WAL: the key to remove is the one to add", e.id)
	case !beside(e.wraps):
		return pgmedic.Errorf(pgmedic.KindConflict, "add another first: pgmedic keys add "+e.id,
			"epoch %s of the WAL: %q is the last key, and without a key the WAL can never be read again", e.id, name)
	}
	if err := e.a.RemoveWrap(ctx, e.id, name); err != nil {
		return err
	}
	// Another run may have removed the others meanwhile: of two such runs one at least sees
	// that nothing is left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	now, err := e.a.Wraps(ctx, e.id)
	if err == nil && beside(now) {
		return nil
	}
	if putBack := e.a.AddWrap(ctx, e.id, name, e.wrap(name)); putBack != nil && !errors.Is(putBack, store.ErrExists) {
		return fmt.Errorf("epoch %s of the WAL: key %q may have been the last one, and could not be put back: %w", e.id, name, putBack)
	}
	if err != nil {
		return fmt.Errorf("epoch %s of the WAL: key %q was put back: %w", e.id, name, err)
	}
	return pgmedic.Errorf(pgmedic.KindConflict, "pgmedic keys list "+e.id+" shows what is left", "epoch %s of the WAL: another run removed the other keys; %q was put back", e.id, name)
}
