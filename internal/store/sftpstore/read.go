package sftpstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// maxResumes is how often in a row a reader goes on after its connection was lost;
	// resumeAfter is how many bytes make a new row.
	maxResumes  = 5
	resumeAfter = 8 << 20
	// lostAndFound is the folder in which fsck keeps what it found.
	lostAndFound = "lost+found"
)

// Open implements store.Store. A file that is shorter than it was when it was opened,
// which only another program can bring about, ends in an error.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	const op = "open"
	if err := s.begin(ctx, op, key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "", "open %s: negative offset %d", key, offset)
	}
	// Look before opening: opening a named pipe would wait for a writer.
	info, err := s.lstat(ctx, key)
	if err == nil && info == nil {
		return nil, s.missing(ctx, op, key)
	}
	r := &reader{ctx: ctx, s: s, key: key, at: offset, since: offset}
	if err == nil {
		err = r.open(ctx)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, s.missing(ctx, op, key)
	case err != nil:
		return nil, s.failed(ctx, op, key, err)
	}
	if length < 0 || length > math.MaxInt64-offset {
		length = math.MaxInt64 - offset
	}
	r.end = max(offset, min(offset+length, r.info.Size()))
	return r, nil
}

// reader reads a range of an object, over as many connections as it takes.
type reader struct {
	ctx context.Context // of Open, whose contract says that it governs this
	s   *Store
	key string

	line    *line
	release func() // nil while nothing is open
	file    *sftp.File
	info    fs.FileInfo // of what was opened first

	buf   []byte // of blocks
	block []byte // what of it was read and not given yet
	at    int64  // of the next byte to read
	end   int64  // behind the last byte

	resumes int   // since the offset
	since   int64 // where the last row of them began
}

// open opens the file, on a connection that it keeps.
func (r *reader) open(ctx context.Context) error {
	var l *line
	var release func()
	var f *sftp.File
	var info fs.FileInfo
	err := func() (err error) {
		for n := 0; ; n++ {
			if l, release, err = r.s.line(ctx); err == nil {
				err = l.call(ctx, func() (err error) {
					if f, err = l.client.Open(r.s.file(r.key)); err != nil {
						return err
					}
					if info, err = f.Stat(); err != nil {
						_ = f.Close() // why it was not opened is in err
					}
					return err
				})
				if err == nil {
					return nil
				}
				release()
			}
			if answered(err) || isFinal(err) || n == attempts-1 || !store.Pause(ctx, n) {
				return err
			}
		}
	}()
	if err != nil {
		return err
	}
	r.line, r.release, r.file = l, release, f
	if r.info == nil {
		r.info = info
	} else if info.Size() != r.info.Size() || !info.ModTime().Equal(r.info.ModTime()) {
		return errReplaced
	}
	return nil
}

// errReplaced says that an object is not the one that was opened.
var errReplaced = errors.New("the object was deleted or replaced while it was read")

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := store.Ended(r.ctx); err != nil {
		return 0, fmt.Errorf("read %s: %w", r.key, err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.block) == 0 {
		if r.at == r.end {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.block)
	r.block = r.block[n:]
	return n, nil
}

// next reads a block, over a new connection where the old one is lost.
func (r *reader) next() error {
	if r.buf == nil {
		r.buf = make([]byte, min(blockBytes, r.end-r.at))
	}
	buf := r.buf[:min(int64(len(r.buf)), r.end-r.at)]
	for {
		n, err := 0, error(nil)
		if r.file == nil {
			err = r.open(r.ctx)
		}
		if err == nil {
			file, at := r.file, r.at
			err = r.line.call(r.ctx, func() error {
				var err error
				if n, err = file.ReadAt(buf, at); n == len(buf) {
					return nil
				} else if err == nil || errors.Is(err, io.EOF) {
					return answerError{io.ErrUnexpectedEOF}
				}
				return err
			})
		}
		if err == nil {
			r.at += int64(n)
			r.block = buf[:n]
			if r.at-r.since >= resumeAfter {
				r.since, r.resumes = r.at, 0
			}
			return nil
		}
		if cause := store.Ended(r.ctx); cause != nil {
			return fmt.Errorf("read %s: %w", r.key, cause)
		}
		r.drop()
		switch {
		case errors.Is(err, errReplaced), errors.Is(err, fs.ErrNotExist):
			return pgmedic.Errorf(pgmedic.KindUnreachable, "something else deletes or replaces objects in the store; find out what",
				"read %s: %w: the object was deleted or replaced while it was read", r.key, io.ErrUnexpectedEOF)
		case answered(err):
			return r.s.failed(r.ctx, "read", r.key, fmt.Errorf("%w, after byte %d", err, r.at))
		case isFinal(err) || r.resumes == maxResumes:
			return fmt.Errorf("%w, after byte %d", r.s.failed(r.ctx, "read", r.key, fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)), r.at)
		}
		r.s.log.Debug("a download was cut off and goes on", "store", r.s.name, "key", r.key, "offset", r.at, "error", err)
		store.Pause(r.ctx, r.resumes)
		r.resumes++
	}
}

// drop gives the connection back.
func (r *reader) drop() {
	if r.release == nil {
		return
	}
	if !r.line.ended() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), cleanUpWithin)
		defer cancel()
		_ = r.line.call(ctx, r.file.Close) // it was only read
	}
	r.release()
	r.release, r.file, r.line = nil, nil, nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.drop()
	return nil
}

// List implements store.Store. It holds the entries of the folders between Dir and the
// object that it yields.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := store.CheckPrefix(prefix); err != nil {
			yield(store.Object{}, fmt.Errorf("list: %w", err))
			return
		}
		var stop bool
		err := s.walkFrom(ctx, parentOf(prefix), func(e entry) (descend bool, err error) {
			if e.isDir {
				// The folder's keys and the prefix agree as far as both go.
				return strings.HasPrefix(e.key+"/", prefix) || strings.HasPrefix(prefix, e.key+"/"), nil
			}
			if strings.HasPrefix(e.key, prefix) && store.CheckKey(e.key) == nil {
				if !yield(store.Object{Key: e.key, SizeBytes: e.size, ModifiedAt: e.modified.UTC()}, nil) {
					stop = true
					return false, fs.SkipAll
				}
			}
			return false, nil
		})
		if stop {
			return
		}
		if err == nil { // a folder that is gone looks like an empty one
			if err = s.gone(ctx); err != nil {
				err = s.failed(ctx, "list", "", err)
			}
		}
		if err != nil {
			yield(store.Object{}, err)
		}
	}
}

// SweepTemp removes the temporary files that were last written to longer ago than
// olderThan, by the server's clock, and returns how many, as store.Local does.
func (s *Store) SweepTemp(ctx context.Context, olderThan time.Duration) (int, error) {
	now, err := s.clock(ctx)
	if err != nil {
		return 0, s.failed(ctx, "sweep", "", err)
	}
	swept := 0
	err = s.walk(ctx, ".", func(e entry) (bool, error) {
		if e.isDir || !e.isTemp || e.modified.After(now.Add(-olderThan)) {
			return e.isDir, nil
		}
		err := s.remove(ctx, e.key)
		if err == nil {
			swept++
			err = s.tidy(ctx, parentOf(e.key))
		}
		return false, s.failedOrNil(ctx, "sweep", e.key, err)
	})
	return swept, err
}

// clock returns the server's time, by a file that it makes and removes.
func (s *Store) clock(ctx context.Context) (time.Time, error) {
	u := &upload{s: s, key: "clock"}
	release, err := u.create(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer release()
	defer u.discard(ctx)
	info, err := u.finish(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// entry is a file or folder below Dir.
type entry struct {
	key      string
	isDir    bool
	isTemp   bool
	size     int64
	modified time.Time
}

// order is what entries of one folder sort by: below "a" all keys begin with "a/".
func (e entry) order() string {
	if e.isDir {
		return e.key + "/"
	}
	return e.key
}

// walkFrom is walk, which does not begin with a link to a folder.
func (s *Store) walkFrom(ctx context.Context, folder string, visit func(entry) (descend bool, err error)) error {
	if folder != "." {
		isDir := false
		err := s.try(ctx, func(l *line) error {
			info, err := l.client.Lstat(s.file(folder))
			isDir = err == nil && info.IsDir()
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.failed(ctx, "list", folder, err)
		} else if !isDir {
			return nil
		}
	}
	return s.walk(ctx, folder, visit)
}

// walk calls visit for every file and folder below folder in the order of keys. It goes
// into a folder only if visit says so. Temporary files are visited, with isTemp set.
// Folders and files that vanish meanwhile are passed over. It ends with visit's first
// error.
func (s *Store) walk(ctx context.Context, folder string, visit func(entry) (descend bool, err error)) error {
	entries, err := s.readDir(ctx, folder)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if err := store.Ended(ctx); err != nil {
			return fmt.Errorf("list %s: %w", folder, err)
		}
		entries[i] = entry{} // let go of the key
		descend, err := visit(e)
		if err == nil && descend {
			err = s.walk(ctx, e.key, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readDir returns the entries of a folder in the order of keys, none if it is gone.
func (s *Store) readDir(ctx context.Context, folder string) ([]entry, error) {
	var found []fs.FileInfo
	err := s.try(ctx, func(l *line) error {
		var err error
		l.names.allow()
		if found, err = l.client.ReadDir(s.file(folder)); l.names.exceeded() {
			found, err = nil, errTooManyNames
			l.end()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, s.failed(ctx, "list", folder, err)
	}
	base := folder + "/"
	if folder == "." {
		base = ""
	}
	entries := make([]entry, 0, len(found))
	for _, info := range found {
		e := entry{
			key: base + info.Name(), isDir: info.IsDir(), isTemp: strings.HasPrefix(info.Name(), store.TempPrefix),
			size: info.Size(), modified: info.ModTime(),
		}
		wanted := info.Mode().IsRegular()
		if e.isDir {
			wanted = e.key != lostAndFound && store.CheckKey(e.key) == nil
		}
		if wanted {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.order(), b.order()) })
	return entries, nil
}
