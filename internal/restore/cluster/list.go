package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/words"
)

// listed is what one reading of the list of files has shown.
type listed struct {
	control, label, configured bool
	version                    bool
	// paths are the hashes of all paths.
	paths map[pathHash]struct{}
	// parents are the folders of those, which a list need not name.
	parents map[pathHash]struct{}
	// grow are the bytes that each folder grows by, in the order of the tree.
	grow map[*branch]int64
	// config are files that can be of settings, by their paths.
	config map[string]heldFile
}

// pathHash stands for a path: a cluster can have millions.
type pathHash [16]byte

func hashOf(p string) (h pathHash) {
	sum := sha256.Sum256([]byte(p))
	copy(h[:], sum[:])
	return h
}

// readList reads the list of files to its end and checks what it means for the folders.
func (r *restore) readList(ctx context.Context) (*listed, error) {
	l := &listed{grow: map[*branch]int64{}, paths: map[pathHash]struct{}{}, parents: map[pathHash]struct{}{}, config: map[string]heldFile{}}
	chunks := map[int64]physical.Chunk{}
	err := r.each(ctx, func(e physical.Entry) error {
		if e.File == nil {
			chunks[e.Chunk.ID] = *e.Chunk
			return nil
		}
		l.hold(e.File, chunks)
		return r.note(l, e.File)
	})
	if err != nil {
		return nil, err
	}
	for name, there := range map[string]bool{controlFile: l.control, "backup_label": l.label, versionFile: l.version} {
		if !there {
			return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them", "the list of files is damaged: %s is not in it, without which no server starts rightly", name)
		}
	}
	return l, nil
}

// note takes account of one file.
func (r *restore) note(l *listed, f *physical.File) error {
	if !physical.Restorable(f.Path) {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them", "the list of files is damaged: %.200q is not a path that PostgreSQL makes", f.Path)
	}
	h := hashOf(f.Path)
	if _, twice := l.paths[h]; twice {
		return errTwice(f.Path)
	}
	l.paths[h] = struct{}{}
	for parent := path.Dir(f.Path); parent != "."; parent = path.Dir(parent) {
		if _, known := l.parents[hashOf(parent)]; known {
			break
		}
		l.parents[hashOf(parent)] = struct{}{}
	}
	if f.Kind == physical.KindFolder || skipped(f.Path) {
		return nil
	}
	switch f.Path {
	case controlFile:
		l.control = true
	case "backup_label":
		l.label = true
	case versionFile:
		l.version = true
	case "postgresql.conf":
		l.configured = true
	}
	bytes := int64(0)
	for _, e := range f.Extents {
		if e.Chunk != physical.Hole {
			bytes += e.Bytes
		}
	}
	b, name := r.tree.locate(f.Path)
	if name == "." {
		return errTwice(f.Path) // a file in the place of a folder
	}
	if b.root != nil {
		if info, err := b.root.Lstat(name); err == nil && info.Mode().IsRegular() {
			bytes = max(0, bytes-info.Size())
		}
	}
	l.grow[b] += bytes
	return nil
}

// walRoom is how many segments of WAL a recovery has in its folder at a time.
const walRoom = 16

// checkSpace refuses disks that are too small.
func (r *restore) checkSpace() error {
	type disk struct {
		free, need int64
		dir        string
	}
	disks := map[uint64]*disk{}
	add := func(dir string, need int64) error {
		free, id, err := FreeBytes(dir)
		if err != nil {
			return err
		}
		if disks[id] == nil {
			disks[id] = &disk{free: free, dir: dir}
		}
		disks[id].need += need
		r.preview.NeededBytes += need
		if dir == r.Dir {
			r.preview.FreeBytes = free
		}
		return nil
	}
	for _, b := range r.tree.all {
		if err := add(b.dir, r.listed.grow[b]); err != nil {
			return err
		}
	}
	walDir := r.Dir
	if r.WALDir != "" {
		walDir = r.WALDir
	}
	if err := add(walDir, walRoom*r.Plan.SegmentBytes); err != nil {
		return err
	}
	for _, d := range disks {
		if d.need > d.free {
			return pgmedic.Errorf(pgmedic.KindFailed, "free room, or put parts on other disks: --tablespace OLD=NEW, --wal-dir DIR",
				"the disk of %s has %s left, and the restore needs %s", d.dir, words.Bytes(d.free), words.Bytes(d.need))
		}
	}
	return nil
}

// found calls what is given with each file and folder that is there, as the list would
// name it. Folders of the cluster themselves and links to them are left out, and what is
// of another cluster.
func (r *restore) found(ctx context.Context, each func(b *branch, name, listName string, folder bool) error) error {
	for _, b := range r.tree.all {
		if b.root == nil {
			continue
		}
		err := fs.WalkDir(b.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it is gone meanwhile
			}
			if err != nil {
				return err
			}
			listName := path.Join(b.prefix, name)
			if at, inner := r.tree.locate(listName); name == "." || at != b && inner == "." {
				return nil
			}
			if r.ofOther(b, name, listName) {
				return skip(entry)
			}
			return each(b, name, listName, entry.IsDir())
		})
		if err != nil {
			return fmt.Errorf("read what is in the folders of the cluster: %w", err)
		}
	}
	return nil
}

// skip leaves out what is in a folder.
func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// foreign reports whether a path that is there is to be deleted.
func (r *restore) foreign(listName string) bool {
	if listName == controlFile || listName == controlFile+partSuffix {
		return false // which is deleted anyway
	}
	return !r.isListed(listName) || skipped(listName)
}

// isListed reports whether the backup has a path, or something below it.
func (r *restore) isListed(listName string) bool {
	h := hashOf(listName)
	_, there := r.listed.paths[h]
	_, parent := r.listed.parents[h]
	return there || parent
}

// versionFolder matches the folder that a cluster has in a tablespace's: that of its
// version (TABLESPACE_VERSION_DIRECTORY in relpath.h).
var versionFolder = regexp.MustCompile(`^PG_[0-9]+_[0-9]+$`)

// ofOther reports whether something in the folder of a tablespace is of a cluster of another
// version: pg_upgrade leaves the tablespaces of the old cluster and of the new one in the
// same folders.
func (r *restore) ofOther(b *branch, name, listName string) bool {
	own := fmt.Sprintf("PG_%d_%d", r.Plan.Major, r.Source.Backup.Physical.CatalogVersion)
	return strings.HasPrefix(b.prefix, "pg_tblspc/") && versionFolder.MatchString(name) && name != own && !r.isListed(listName)
}

// findDeletions says what a delta restore deletes.
func (r *restore) findDeletions(ctx context.Context) error {
	return r.found(ctx, func(_ *branch, _, listName string, folder bool) error {
		if !r.foreign(listName) || skipped(listName) {
			return nil
		}
		if r.preview.Deletions++; len(r.preview.Delete) < maxDeletions {
			r.preview.Delete = append(r.preview.Delete, listName)
		}
		if folder {
			return fs.SkipDir
		}
		return nil
	})
}

// delete deletes what is not in the backup. Files that the restore writes itself go, too.
func (r *restore) delete(ctx context.Context) error {
	return r.found(ctx, func(b *branch, name, listName string, folder bool) error {
		if !r.foreign(listName) || listName == "pgmedic-recovery.json" {
			return nil
		}
		if err := b.root.RemoveAll(name); err != nil {
			return err
		}
		if folder {
			return fs.SkipDir
		}
		return nil
	})
}
