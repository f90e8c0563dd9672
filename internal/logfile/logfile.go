// Package logfile writes a log into a file that is rotated: at a size, and when a day has
// ended, the file is renamed and compressed, and a new one begun. Several processes may
// write to one log. This package never deletes rotated files: pgmedic cleanup does.
package logfile

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultMaxBytes is the size at which a log is rotated.
const DefaultMaxBytes = 64 << 20

// tempPrefix begins the name of a file that is being compressed, as that of every file
// of pgmedic that is not whole yet.
const tempPrefix = ".pgmedic-tmp-"

// stampLayout is the time in the name of a rotated log, in UTC.
const stampLayout = "20060102T150405Z"

// Options say how a log is rotated.
type Options struct {
	// Path is the file. It is made, with mode 0600, but not its folder.
	Path string
	// MaxBytes is the size at which it is rotated. Zero is DefaultMaxBytes.
	MaxBytes int64
	// Now is the clock; nil is time.Now. A log is rotated at midnight UTC.
	Now func() time.Time
}

// File is an open log. It is safe for concurrent use.
type File struct {
	o Options

	mu   sync.Mutex
	file *os.File
	size int64
	// last is when the file was last written to.
	last time.Time
	// fixed is true where the log can't be rotated: it is not a regular file, or its folder
	// may not be written to.
	fixed bool
}

// Open opens a log, and rotates it first if its day is over or it is too large. A log that
// can't be rotated is written to all the same, with a line that says so.
func Open(o Options) (*File, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &File{o: o}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// maxOpens is how often the log is opened again because another process rotates it at
// that moment.
const maxOpens = 10

// open opens the file that has the name now. The lock says to others that somebody still
// writes to it, also when it has been renamed.
func (f *File) open() error {
	for n := 1; ; n++ {
		file, err := os.OpenFile(f.o.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("open the log: %w", err)
		}
		info, err := file.Stat()
		if err != nil {
			return errors.Join(fmt.Errorf("open the log: %w", err), file.Close())
		}
		fixed := !info.Mode().IsRegular() || isLink(f.o.Path)
		if !fixed {
			// A file system without locks has no log that others could leave uncompressed.
			_ = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
			// Until it was locked, another could rotate and compress it.
			if there, err := os.Lstat(f.o.Path); n < maxOpens && (err != nil || !os.SameFile(there, info)) {
				_ = file.Close() // nothing was written
				continue
			}
		}
		f.file, f.size, f.last, f.fixed = file, info.Size(), info.ModTime(), fixed
		if info.Size() == 0 {
			f.last = f.o.Now()
		}
		return nil
	}
}

// Write writes a line. It rotates the log before, if that is due.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return 0, fmt.Errorf("write the log: %w", fs.ErrClosed)
	}
	now := f.o.Now()
	if !f.fixed {
		if err := f.follow(); err != nil {
			return 0, err
		}
		if f.due(now, int64(len(p))) {
			if err := f.rotate(now, int64(len(p))); err != nil {
				return 0, err
			}
		}
	}
	n, err := f.file.Write(p)
	f.size, f.last = f.size+int64(n), now
	if err != nil {
		return n, fmt.Errorf("write the log: %w", err)
	}
	return n, nil
}

// due reports whether the log is to be rotated before more bytes are written.
func (f *File) due(now time.Time, more int64) bool {
	if f.size == 0 {
		return false
	}
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	return f.size+more > f.o.MaxBytes || day(f.last) < day(now)
}

// follow opens the file again where another process has rotated it, or something else
// has moved it.
func (f *File) follow() error {
	open, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	if open.Size() != f.size { // others write to it, too
		f.size, f.last = open.Size(), open.ModTime()
	}
	if there, err := os.Lstat(f.o.Path); err == nil && os.SameFile(there, open) {
		return nil
	}
	old := f.file
	if err := f.open(); err != nil {
		f.file = old // better there than nowhere
		return nil   //nolint:nilerr // the line is written to what was the log
	}
	return old.Close() //nolint:wrapcheck // nothing was lost
}

// rotate renames the log, begins a new one, and compresses the old one unless another
// process still writes to it.
func (f *File) rotate(now time.Time, more int64) error {
	folder, err := os.Open(filepath.Dir(f.o.Path))
	if err != nil {
		return f.refuse(err)
	}
	defer func() { _ = folder.Close() }() // only locked
	// One process at a time: the others find the new file. No waiting: any local user who
	// may read the folder can hold the lock.
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	} else if err != nil {
		return f.refuse(err)
	}
	if err := f.follow(); err != nil || !f.due(now, more) {
		return err
	}
	rotated, err := f.rename(now)
	if err != nil {
		return f.refuse(err)
	}
	old := f.file
	if err := f.open(); err != nil {
		f.file = old // which has another name now
		return f.refuse(err)
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("close the old log: %w", err)
	}
	if err := Compress(rotated); err != nil && !errors.Is(err, ErrInUse) {
		f.own().Warn("the old log could not be compressed", "error", err)
	}
	return nil
}

// rename gives the log a name with the time in it that is not taken, and the log's name to
// an empty file with the same mode and owner, so that whoever writes to the log still can.
// There is no moment without a log, in which another process would make one of its own.
func (f *File) rename(now time.Time) (rotated string, err error) {
	fresh, err := os.CreateTemp(filepath.Dir(f.o.Path), tempPrefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(fresh.Name()))
		}
	}()
	info, err := f.file.Stat()
	if err == nil {
		err = inherit(fresh, info)
	}
	if err = errors.Join(err, fresh.Close()); err != nil {
		return "", err
	}
	name := f.o.Path + "." + now.UTC().Format(stampLayout)
	for n := 1; n < 1000; n++ {
		candidate := name
		if n > 1 {
			candidate += "." + strconv.Itoa(n)
		}
		if exists(candidate + ".gz") {
			continue
		}
		err := os.Link(f.o.Path, candidate)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if err := os.Rename(fresh.Name(), f.o.Path); err != nil {
			return "", errors.Join(err, os.Remove(candidate))
		}
		return candidate, nil
	}
	return "", fmt.Errorf("all names such as %s are taken", filepath.Base(name))
}

// inherit gives a new file the owner, the group and the permissions of another.
func inherit(file *os.File, from fs.FileInfo) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	own, _ := info.Sys().(*syscall.Stat_t)
	want, ok := from.Sys().(*syscall.Stat_t)
	if own == nil || !ok {
		return errors.New("the owner of the log is not known")
	}
	if own.Uid != want.Uid || own.Gid != want.Gid {
		if err := file.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return fmt.Errorf("give the new file the owner of the log: %w", err)
		}
	}
	return file.Chmod(from.Mode().Perm())
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// refuse leaves the log as it is, for as long as it is open, and says so in it.
func (f *File) refuse(why error) error {
	f.fixed = true
	f.own().Warn("the log can't be rotated: let this user write to its folder, or rotate it with logrotate", "error", why)
	return nil
}

// own returns a logger that writes lines about the log into it.
func (f *File) own() *slog.Logger { return slog.New(slog.NewTextHandler(f.file, nil)) }

// Close closes the log.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err //nolint:wrapcheck // its own
}

// ErrInUse is the error of Compress for a file that another process has open as its log.
var ErrInUse = errors.New("another process still writes to it")

// Compress replaces a rotated log by a compressed one, whose name ends in .gz, with the
// same time of change, owner and permissions. An interrupt leaves the old file, and at most a temporary one.
func Compress(path string) (err error) {
	in, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("compress a log: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := unix.Flock(int(in.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	} else if err != nil {
		return fmt.Errorf("lock a log: %w", err)
	}
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("compress a log: %w", err)
	}
	out, err := os.CreateTemp(filepath.Dir(path), tempPrefix)
	if err != nil {
		return fmt.Errorf("compress a log: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	err = pack(out, in)
	if err == nil {
		err = inherit(out, info)
	}
	if err == nil {
		err = out.Sync()
	}
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Chtimes(out.Name(), time.Time{}, info.ModTime())
	}
	if err == nil {
		// A name that is taken stays what it is.
		if err = os.Link(out.Name(), path+".gz"); err == nil {
			err = errors.Join(os.Remove(out.Name()), os.Remove(path))
			return wrapped(err)
		}
	}
	return wrapped(err)
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("compress a log: %w", err)
}

func pack(w io.Writer, r io.Reader) error {
	z := gzip.NewWriter(w)
	if _, err := io.Copy(z, r); err != nil {
		return err
	}
	return z.Close()
}

// rotatedName is how the name of a rotated log goes on after the log's.
var rotatedName = regexp.MustCompile(`^\.([0-9]{8}T[0-9]{6}Z)(\.[0-9]{1,3})?(\.gz)?$`)

// Rotated reports whether a name in the log's folder is that of a rotated log, when it
// was rotated, and whether it is compressed.
func Rotated(path, name string) (at time.Time, compressed, ok bool) {
	base := filepath.Base(path)
	if len(name) <= len(base) || name[:len(base)] != base {
		return at, false, false
	}
	m := rotatedName.FindStringSubmatch(name[len(base):])
	if m == nil {
		return at, false, false
	}
	at, err := time.Parse(stampLayout, m[1])
	return at, m[3] != "", err == nil
}
