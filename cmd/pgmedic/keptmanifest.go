package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/durable"
)

// keptManifests are the servers' own manifests of the newest physical backups, or their lists of
// files where these were read by SQL, which a host needs for the next incremental one, and can't
// read from the store without a key. They name the files of the cluster, and only their owner may
// read them.
type keptManifests struct {
	dir string
	// file is what is being written; nil while nothing is.
	file *os.File
	err  error
}

// keptManifests are those of a server, by the name that its backups are filed under, which may be
// empty.
func (e *env) keptManifests(server string) (*keptManifests, error) {
	state, err := e.stateDir()
	if err != nil {
		return nil, err
	}
	if server == "" {
		server = "@"
	}
	return &keptManifests{dir: filepath.Join(state, "manifests", catalog.EscapeName(server))}, nil
}

// Write adds to the manifest that is being kept. An error is kept for commit.
func (k *keptManifests) Write(p []byte) (int, error) {
	if k.err == nil && k.file == nil {
		if k.err = os.MkdirAll(k.dir, 0o700); k.err == nil {
			k.file, k.err = os.CreateTemp(k.dir, ".new-*") // which no other user may read
		}
	}
	if k.err == nil {
		_, k.err = k.file.Write(p)
	}
	return len(p), k.err
}

// commit keeps what was written as that of a backup, and no other any longer.
func (k *keptManifests) commit(id string) error {
	if k.file == nil || k.err != nil {
		return errors.Join(k.err, k.drop())
	}
	err := errors.Join(k.file.Sync(), k.file.Close())
	if err == nil {
		err = os.Rename(k.file.Name(), k.path(id))
	}
	if err == nil {
		err = durable.Folder(k.dir)
	}
	if err != nil {
		return errors.Join(err, os.Remove(k.file.Name()))
	}
	k.file = nil
	entries, err := os.ReadDir(k.dir)
	for _, e := range entries {
		if name := e.Name(); name != filepath.Base(k.path(id)) && (strings.HasSuffix(name, ".json") || strings.HasPrefix(name, ".new-")) {
			err = errors.Join(err, os.Remove(filepath.Join(k.dir, name)))
		}
	}
	return err
}

// drop forgets what was written.
func (k *keptManifests) drop() error {
	if k.file == nil {
		return nil
	}
	name := k.file.Name()
	err := errors.Join(k.file.Close(), os.Remove(name))
	k.file = nil
	return err
}

func (k *keptManifests) path(id string) string { return filepath.Join(k.dir, id+".json") }

// open opens the manifest of a backup, if it is the one that the backup's own manifest names.
func (k *keptManifests) open(b *pgmedic.Backup) (_ io.ReadCloser, err error) {
	f, err := os.Open(k.path(b.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "", "this host has no key that opens it, and has not kept it in %s", k.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the kept manifest: %w", err)
	}
	sum := sha256.New()
	if _, err = io.Copy(sum, f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	want := b.Physical.ServerManifestSHA256
	if b.Physical.SQL != nil {
		want = b.Physical.SQL.ListSHA256
	}
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != want {
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s is not what belongs to the backup", f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// manifestOf opens the server's manifest of a backup, or its list of files if these were read by
// SQL: from the store where this host has a key,
// else what it kept.
func (cmd *backupCommand) manifestOf(ctx context.Context, c *catalog.Catalog, kept *keptManifests, b *pgmedic.Backup) (io.ReadCloser, error) {
	whole, err := c.Whole(ctx, catalog.Entry{Backup: b})
	if err != nil {
		return nil, err
	}
	if kept != nil && whole.Seal.Encryption != "none" && !cmd.keys.hasKey(whole) {
		return kept.open(whole)
	}
	s, err := cmd.keys.physicalSource(ctx, c, catalog.Entry{Backup: b})
	if err != nil {
		return nil, err
	}
	if whole.Physical.SQL != nil {
		return s.Object(ctx, pgmedic.RoleFiles)
	}
	return s.Object(ctx, pgmedic.RoleServerManifest)
}
