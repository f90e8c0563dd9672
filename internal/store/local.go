package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
)

const (
	fileMode = 0o600 // of every file that Local makes, whatever the umask
	dirMode  = 0o700 // of every folder that Local makes, whatever the umask
)

// LocalOptions say where a Local keeps its objects.
type LocalOptions struct {
	// Dir is the folder. It may itself be a symbolic link. There is no
	// default. One that doesn't exist is made, with its parents.
	Dir string
	// MustExist refuses a Dir that doesn't exist with pgmedic.KindNotFound
	// rather than making it: for commands that only read, so that a mistyped
	// folder isn't taken for an empty one.
	MustExist bool
	// Shared says whose file, and folders on the way to it, are to belong to the owner of
	// the folder that they are in where root makes them. Nil is of no key.
	Shared func(key string) bool
	// Logger receives warnings about oddities that are not errors; nil discards them.
	Logger *slog.Logger
}

// Local is a Store of files below one folder, key by key: the object "a/b" is
// the file b in the folder a. It makes files with mode 0600 and folders with
// mode 0700.
//
// Put writes to a temporary file in the object's folder, whose name begins with
// TempPrefix, flushes it to the disk, links it to its name, which fails if that
// is taken, and flushes the folders up to Dir. A process that is killed meanwhile
// leaves at most such a file behind, which List never shows and SweepTemp
// removes. Where the file system has no hard links, a rename that refuses to
// replace takes the link's place; where it has neither, Put fails.
//
// No key and no symbolic link leads outside of Dir. Symbolic links and special
// files are not objects: they are neither listed, nor opened, nor deleted. Files of others
// that have a name that CheckKey accepts are objects. The folder lost+found
// directly in Dir, which belongs to the file system, is passed over.
//
// Like the file system itself Local can't hold both "a" and "a/b". Where that
// folds the case of names (macOS, Windows), keys that differ in case alone are
// one key.
type Local struct {
	dir    string
	root   *os.Root
	shared func(key string) bool
	log    *slog.Logger
	// link gives temp the name final in the same folder; it is a field so that
	// tests can be a file system that has no hard links.
	link func(root *os.Root, temp, final string) error
}

var _ Store = (*Local)(nil)

// NewLocal returns a Store of the files below a folder. The caller closes it.
func NewLocal(o LocalOptions) (*Local, error) {
	if o.Dir == "" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "say in which folder backups are kept", "local store: no folder is given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("local store %s: %w", o.Dir, err)
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if !o.MustExist {
		if err := makeRoot(dir); err != nil {
			return nil, failed("make folder", dir, dir, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "check the path, and that the disk that holds it is mounted",
			"folder %s does not exist", dir)
	} else if err != nil {
		return nil, failed("open folder", dir, dir, err)
	}
	l := &Local{dir: dir, root: root, shared: o.Shared, log: log, link: (*os.Root).Link}
	if info, err := root.Stat("."); err == nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("the backup folder is open to other users; chmod o-rwx closes it",
			"dir", dir, "mode", info.Mode().Perm().String())
	}
	return l, nil
}

// makeRoot makes dir and its parents as far as they are missing, durably.
func makeRoot(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return syscall.ENOTDIR
	case err == nil, !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeRoot(parent); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, dirMode); {
	case errors.Is(err, fs.ErrExist): // by another process, just now
	case err != nil:
		return err
	default:
		if err := os.Chmod(dir, dirMode); err != nil {
			return err
		}
	}
	return durable.Opened(os.Open(parent))
}

// Close gives the folder back. No method may be called afterwards.
func (l *Local) Close() error { return l.root.Close() }

// String names the folder.
func (l *Local) String() string { return "folder " + l.dir }

// Stat implements Store.
func (l *Local) Stat(ctx context.Context, key string) (Object, error) {
	const op = "stat"
	if err := l.begin(ctx, op, key); err != nil {
		return Object{}, err
	}
	info, err := l.lstat(key)
	if err != nil {
		return Object{}, failed(op, key, l.dir, err)
	} else if info == nil {
		return Object{}, l.missing(op, key)
	}
	return object(key, info), nil
}

// Open implements Store. A file that is shorter than it was when it was opened,
// which only another program can bring about, ends in an error.
func (l *Local) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	const op = "open"
	if err := l.begin(ctx, op, key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "", "open %s: negative offset %d", key, offset)
	}
	// Look before opening: opening a named pipe would wait for a writer.
	switch info, err := l.lstat(key); {
	case err != nil:
		return nil, failed(op, key, l.dir, err)
	case info == nil:
		return nil, l.missing(op, key)
	}
	f, err := l.root.Open(key)
	if isMissing(err) {
		return nil, l.missing(op, key)
	} else if err != nil {
		return nil, failed(op, key, l.dir, err)
	}
	info, err := f.Stat()
	if err == nil {
		offset = min(offset, info.Size())
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, failed(op, key, l.dir, err)
	}
	left := info.Size() - offset
	if length >= 0 {
		left = min(left, length)
	}
	return &localReader{ctx: ctx, local: l, key: key, file: f, left: left}, nil
}

// localReader reads the rest of a range of a file.
type localReader struct {
	ctx   context.Context // of Open, whose contract says that it governs this
	local *Local
	key   string
	file  *os.File
	left  int64
}

func (r *localReader) Read(p []byte) (int, error) {
	if err := Ended(r.ctx); err != nil {
		return 0, fmt.Errorf("read %s: %w", r.key, err)
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	switch {
	case err == io.EOF:
		err = failed("read", r.key, r.local.dir, fmt.Errorf("%w: the file became shorter while it was read", io.ErrUnexpectedEOF))
	case err != nil:
		err = failed("read", r.key, r.local.dir, err)
	}
	return n, err
}

func (r *localReader) Close() error { return r.file.Close() }

// Delete implements Store. It also removes the folders that it left empty.
func (l *Local) Delete(ctx context.Context, key string) error {
	const op = "delete"
	if err := l.begin(ctx, op, key); err != nil {
		return err
	}
	info, err := l.lstat(key)
	if err == nil && info != nil {
		err = l.root.Remove(key)
	}
	if err != nil && !isMissing(err) {
		return failed(op, key, l.dir, err)
	}
	// Also where nothing was there: an earlier Delete may have failed here.
	if err := l.tidy(parentOf(key)); err != nil {
		return failed(op, key, l.dir, err)
	}
	return nil
}

// tidy makes what was removed from folder durable. If that is empty now it
// removes it, and so on upwards, but never Dir. A Put that is about to use such
// a folder makes it again.
func (l *Local) tidy(folder string) error {
	for {
		removed := folder != "." && removeDir(l.root, folder) == nil
		if !removed {
			err := durable.Opened(l.root.Open(folder))
			if !isMissing(err) {
				return err
			} // else another Delete removed it
		}
		if folder == "." {
			return nil
		}
		folder = parentOf(folder)
	}
}

// begin checks what every method checks first.
func (l *Local) begin(ctx context.Context, op, key string) error {
	if err := CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := Ended(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	return nil
}

// lstat returns the file of an object, or nil where key is none: nothing is
// there, or a folder, a link or a special file.
func (l *Local) lstat(key string) (fs.FileInfo, error) {
	info, err := l.root.Lstat(key)
	if isMissing(err) {
		return nil, nil
	} else if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return info, nil
}

// missing is the error of op for a key that isn't there: NotFound, unless the whole
// folder was deleted, moved or unmounted, which says nothing about the object.
func (l *Local) missing(op, key string) error {
	if err := l.gone(); err != nil {
		return failed(op, key, l.dir, err)
	}
	return NotFound(op, key)
}

// gone returns an error where Dir is not the folder any more that was opened.
func (l *Local) gone() error {
	now, err := os.Stat(l.dir)
	if err != nil {
		return err
	}
	then, err := l.root.Stat(".")
	if err == nil && !os.SameFile(now, then) {
		err = fmt.Errorf("the folder was replaced: %w", fs.ErrNotExist)
	}
	return err
}

// isMissing reports whether err says that there is no such file, also because
// what should be a folder on the way to it is a file.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// object is the object of a file.
func object(key string, info fs.FileInfo) Object {
	return Object{Key: key, SizeBytes: info.Size(), ModifiedAt: info.ModTime().UTC()}
}

// parentOf is the folder of a key in the terms of os.Root: "." is Dir.
func parentOf(key string) string {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		return key[:i]
	}
	return "."
}
