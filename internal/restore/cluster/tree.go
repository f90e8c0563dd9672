package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/recovery"
)

const (
	folderMode, fileMode = 0o700, 0o600
	// partSuffix is of global/pg_control until all else is there.
	partSuffix = ".pgmedic-part"
)

// tree is the folders of a cluster, each of which nothing leads out of: the data folder,
// that of WAL where it lies elsewhere, and those of tablespaces.
type tree struct {
	o    Options
	lock *os.File
	all  []*branch
}

// branch is one of the folders.
type branch struct {
	// prefix is its path within the data folder, and empty for that itself.
	prefix string
	dir    string
	root   *os.Root // nil while it does not exist
}

func newTree(o Options) *tree {
	t := &tree{o: o, all: []*branch{{dir: o.Dir}}}
	if o.WALDir != "" {
		t.all = append(t.all, &branch{prefix: "pg_wal", dir: o.WALDir})
	}
	for _, s := range o.tablespaces() {
		if s.OID != 0 {
			t.all = append(t.all, &branch{prefix: "pg_tblspc/" + strconv.FormatUint(uint64(s.OID), 10), dir: s.To})
		}
	}
	return t
}

// data is the data folder.
func (t *tree) data() *branch { return t.all[0] }

// locate returns the folder that holds a path of the list, and its name there: . for the
// folder itself.
func (t *tree) locate(p string) (*branch, string) {
	for _, b := range t.all[1:] {
		if p == b.prefix {
			return b, "."
		}
		if rest, ok := strings.CutPrefix(p, b.prefix+"/"); ok {
			return b, rest
		}
	}
	return t.data(), p
}

// openExisting opens what is there, and keeps others from restoring into it.
func (t *tree) openExisting(state State) error {
	if state == Absent {
		return nil
	}
	for _, b := range t.all {
		if err := t.open(b); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return t.hold()
}

// open opens the folder. One of another user than it is restored for is refused: that user
// could have put a link there.
func (t *tree) open(b *branch) (err error) {
	if b.root != nil {
		return nil
	}
	if b.root, err = os.OpenRoot(b.dir); err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "run pgmedic as the user that runs PostgreSQL", "open a folder of the cluster: %w", err)
	}
	info, err := b.root.Stat(".")
	if err != nil {
		return fmt.Errorf("open a folder of the cluster: %w", err)
	}
	uid := os.Geteuid()
	if t.o.Owner != nil {
		uid = t.o.Owner.UID
	}
	if has, ok := info.Sys().(*syscall.Stat_t); ok && int(has.Uid) != uid {
		return conflict("run pgmedic as the user that runs PostgreSQL, whose folders they must be", "%s belongs to user %d, and the cluster is for user %d", b.dir, has.Uid, uid)
	}
	return nil
}

// hold keeps another restore out of the data folder.
func (t *tree) hold() (err error) {
	if t.lock != nil {
		return nil
	}
	if t.lock, err = os.Open(t.o.Dir); err != nil {
		return fmt.Errorf("open the data folder: %w", err)
	}
	if err := unix.Flock(int(t.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return conflict("wait until it is done", "another restore into %s is running", t.o.Dir)
	}
	return nil // a file system without locks has no more to offer
}

func (t *tree) close() (err error) {
	for _, b := range t.all {
		if b.root != nil {
			err = errors.Join(err, b.root.Close())
		}
	}
	if t.lock != nil {
		err = errors.Join(err, t.lock.Close())
	}
	return err
}

// make makes the folders and the links to them. From then on the data folder is that of an
// unfinished restore.
func (t *tree) make(state State) error {
	for _, b := range t.all {
		if err := t.makeFolder(b.dir); err != nil {
			return pgmedic.Errorf(pgmedic.KindUnreachable, "make its parent a folder of the user that runs PostgreSQL", "make a folder of the cluster: %w", err)
		}
		if err := t.open(b); err != nil {
			return err
		}
		if err := b.root.Chmod(".", folderMode); err != nil {
			return fmt.Errorf("close %s to other users: %w", b.dir, err)
		}
	}
	if err := t.hold(); err != nil {
		return err
	}
	if now, err := stateOf(t.o.Dir); err != nil || now != state && now != Empty {
		return errors.Join(err, conflict("see what writes to it, and run it again", "%s was changed meanwhile", t.o.Dir))
	}
	text, err := t.o.Plan.Encode()
	if err == nil {
		err = t.writeFile(recovery.FileName, string(text))
	}
	if err == nil {
		err = durable.Opened(t.data().root.Open("."))
	}
	if err != nil {
		return fmt.Errorf("write the plan of the recovery: %w", err)
	}
	for _, name := range []string{controlFile, controlFile + partSuffix} {
		if err := t.data().root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the folder from being started: %w", err)
		}
	}
	for _, b := range t.all[1:] {
		if err := t.link(b); err != nil {
			return fmt.Errorf("link %s: %w", b.prefix, err)
		}
	}
	return t.makeAbsent()
}

// makeAbsent makes the folders of tablespaces that WAL creates: PostgreSQL does not.
func (t *tree) makeAbsent() error {
	for _, s := range t.o.Plan.Tablespaces {
		if err := t.makeFolder(s.To); err != nil {
			return fmt.Errorf("make the folder of a tablespace: %w", err)
		}
	}
	return nil
}

// makeFolder makes a folder and its parents, as far as they are missing.
func (t *tree) makeFolder(dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	case err == nil, !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := t.makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, folderMode); err != nil {
		return err
	}
	if t.o.Owner != nil {
		if err := os.Lchown(dir, t.o.Owner.UID, t.o.Owner.GID); err != nil {
			return err
		}
	}
	return durable.Folder(parent)
}

// link makes the link from the data folder to another one.
func (t *tree) link(b *branch) error {
	root := t.data().root
	if at, err := root.Readlink(b.prefix); err == nil && at == b.dir {
		return nil
	}
	parent := path.Dir(b.prefix)
	if err := t.mkdirAll(t.data(), parent); err != nil {
		return err
	}
	if err := root.RemoveAll(b.prefix); err != nil {
		return err
	}
	if err := root.Symlink(b.dir, b.prefix); err != nil {
		return err
	}
	return t.give(t.data(), b.prefix)
}

// mkdirAll makes a folder within one of the cluster.
func (t *tree) mkdirAll(b *branch, name string) error {
	if name == "." || name == "" {
		return nil
	}
	info, err := b.root.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil && !t.o.Delta:
		return errTwice(name)
	case err == nil: // something else is in its place
		if err := b.root.RemoveAll(name); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := t.mkdirAll(b, path.Dir(name)); err != nil {
		return err
	}
	if err := b.root.Mkdir(name, folderMode); err != nil {
		return err
	}
	return t.give(b, name)
}

// give gives what was made to the owner of the cluster.
func (t *tree) give(b *branch, name string) error {
	if t.o.Owner == nil {
		return nil
	}
	return b.root.Lchown(name, t.o.Owner.UID, t.o.Owner.GID)
}

// errTwice is the error of a list that has a path twice, or two that this file system takes
// for one.
func errTwice(name string) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them", "the list of files is damaged: %.200q is in it twice, or as a file and as a folder", name)
}

// writeFile writes a small file of our own.
func (t *tree) writeFile(name, text string) error {
	root := t.data().root
	if err := root.RemoveAll(name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return t.give(t.data(), name)
}

// flush makes all files last, several at the same time, and then the folders.
func (t *tree) flush(ctx context.Context) error {
	var folders []func() error
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * t.o.Jobs)
	for _, b := range t.all {
		err := fs.WalkDir(b.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case entry.IsDir():
				folders = append(folders, func() error { return durable.Opened(b.root.Open(name)) })
			case entry.Type().IsRegular():
				g.Go(func() error {
					f, err := b.root.Open(name)
					if err != nil {
						return err
					}
					return errors.Join(f.Sync(), f.Close())
				})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("flush the files: %w", errors.Join(err, g.Wait()))
		}
	}
	err := g.Wait()
	for _, folder := range folders {
		if err == nil {
			err = folder()
		}
	}
	if err != nil {
		return fmt.Errorf("flush the files: %w", err)
	}
	return nil
}

// finish makes the folder one that can be started.
func (t *tree) finish() error {
	root := t.data().root
	err := root.Rename(controlFile+partSuffix, controlFile)
	if err == nil {
		err = durable.Opened(root.Open("global"))
	}
	if err != nil {
		return fmt.Errorf("complete the cluster: %w", err)
	}
	return nil
}

// FreeBytes returns the room on the disk of a folder, or of the nearest parent that
// exists, and which disk that is.
func FreeBytes(dir string) (free int64, disk uint64, err error) {
	for ; ; dir = filepath.Dir(dir) {
		var s unix.Statfs_t
		var f unix.Stat_t
		if err := errors.Join(unix.Statfs(dir, &s), unix.Stat(dir, &f)); errors.Is(err, fs.ErrNotExist) && dir != "/" {
			continue
		} else if err != nil {
			return 0, 0, fmt.Errorf("ask for the room on the disk of %s: %w", dir, err)
		}
		return int64(s.Bavail) * int64(s.Bsize), uint64(f.Dev), nil //nolint:unconvert // other systems have other types
	}
}

// skipped reports whether a file of the list is made by the restore itself, or would tell
// PostgreSQL something else than to recover.
func skipped(p string) bool {
	return slices.Contains([]string{
		pidFile, "postmaster.opts", "recovery.signal", "standby.signal", "recovery.conf", "tablespace_map", "backup_manifest", recovery.FileName, recovery.LeaseFileName,
	}, p)
}

// linkCount returns how many names a file has: one that has several would be changed under
// all of them.
func linkCount(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink) //nolint:unconvert // as above
	}
	return 1
}
