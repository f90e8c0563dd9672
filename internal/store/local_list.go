package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"
)

// readDirBatch is how many entries of a folder are read at a time.
const readDirBatch = 1024

// lostAndFound is the folder in which fsck keeps what it found, made by the file
// system for root alone.
const lostAndFound = "lost+found"

// List implements Store. It holds the entries of the folders between Dir and
// the object that it yields, and no open file.
func (l *Local) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(Object{}, fmt.Errorf("list: %w", err))
			return
		}
		var stop bool
		err := l.walk(ctx, parentOf(prefix), func(e entry) (descend bool, err error) {
			if e.isDir {
				// The folder's keys and the prefix agree as far as both go.
				return strings.HasPrefix(e.key+"/", prefix) || strings.HasPrefix(prefix, e.key+"/"), nil
			}
			if strings.HasPrefix(e.key, prefix) && CheckKey(e.key) == nil {
				if !yield(Object{Key: e.key, SizeBytes: e.size, ModifiedAt: e.modified.UTC()}, nil) {
					stop = true
					return false, fs.SkipAll
				}
			}
			return false, nil
		})
		if err == nil { // a folder that is gone looks like an empty one
			if err = l.gone(); err != nil {
				err = failed("list", "", l.dir, err)
			}
		}
		if err != nil && !stop {
			yield(Object{}, err)
		}
	}
}

// Folders implements Store. It reads the folder itself, and in each folder below it
// only until the first key is found.
func (l *Local) Folders(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := CheckFolder(folder); err != nil {
			yield("", fmt.Errorf("list: %w", err))
			return
		}
		var stop bool
		top := "."
		if folder != "" {
			top = strings.TrimSuffix(folder, "/")
		}
		err := l.walk(ctx, top, func(e entry) (descend bool, err error) {
			if !e.isDir {
				return false, nil
			}
			found, err := l.holdsKey(ctx, e.key)
			if found && !yield(e.key+"/", nil) {
				stop = true
				return false, fs.SkipAll
			}
			return false, err
		})
		if err == nil {
			if err = l.gone(); err != nil {
				err = failed("list", "", l.dir, err)
			}
		}
		if err != nil && !stop {
			yield("", err)
		}
	}
}

// holdsKey reports whether a key lies below folder, or may: one that is unreadable to this user.
func (l *Local) holdsKey(ctx context.Context, folder string) (bool, error) {
	found := false
	err := l.walk(ctx, folder, func(e entry) (bool, error) {
		if !e.isDir && CheckKey(e.key) == nil {
			found = true
			return false, fs.SkipAll
		}
		return true, nil
	})
	if found || errors.Is(err, fs.ErrPermission) { // the caller may have no use for it
		return true, nil
	}
	return false, err
}

// SweepTemp removes the temporary files that were last written to longer ago
// than olderThan, and returns how many. It is for what killed processes left
// behind: a Put whose temporary file is swept fails, so olderThan must be longer
// than the longest pause of a reader that is being put; a day is safe. The clock
// is that of the machine that runs this.
func (l *Local) SweepTemp(ctx context.Context, olderThan time.Duration) (int, error) {
	before := time.Now().Add(-olderThan)
	swept := 0
	err := l.walk(ctx, ".", func(e entry) (bool, error) {
		if e.isDir || !e.isTemp || e.modified.After(before) {
			return e.isDir, nil
		}
		if err := l.root.Remove(e.key); err != nil && !isMissing(err) {
			return false, failed("sweep", e.key, l.dir, err)
		}
		swept++
		if err := l.tidy(parentOf(e.key)); err != nil {
			return false, failed("sweep", e.key, l.dir, err)
		}
		return false, nil
	})
	return swept, err
}

// entry is a file or folder below Dir.
type entry struct {
	key      string
	isDir    bool
	isTemp   bool
	size     int64
	modified time.Time
}

// order is what entries of one folder sort by. Below "a" all keys begin with
// "a/", and so come after "a.b" and before "a0"; the order of file names would
// have "a" first.
func (e entry) order() string {
	if e.isDir {
		return e.key + "/"
	}
	return e.key
}

// walk calls visit for every file and folder below folder in the order of keys.
// It goes into a folder only if visit says so. Temporary files are visited, with
// isTemp set; List's CheckKey passes them over. Folders and files that vanish
// meanwhile are passed over. It ends with visit's first error.
func (l *Local) walk(ctx context.Context, folder string, visit func(entry) (descend bool, err error)) error {
	entries, err := l.readDir(ctx, folder)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.order(), b.order()) })
	for i, e := range entries {
		if err := Ended(ctx); err != nil {
			return fmt.Errorf("list %s: %w", folder, err)
		}
		entries[i] = entry{} // let go of the key
		descend, err := visit(e)
		if err == nil && descend {
			err = l.walk(ctx, e.key, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readDir returns the entries of a folder in no order, none if it is gone.
func (l *Local) readDir(ctx context.Context, folder string) ([]entry, error) {
	// A link that took the folder's place must not be gone into.
	if info, err := l.root.Lstat(folder); isMissing(err) || (err == nil && !info.IsDir()) {
		return nil, nil
	}
	f, err := l.root.Open(folder)
	if isMissing(err) {
		return nil, nil
	} else if err != nil {
		return nil, failed("list", folder, l.dir, err)
	}
	defer f.Close()
	base := folder + "/"
	if folder == "." {
		base = ""
	}
	var entries []entry
	for {
		if err := Ended(ctx); err != nil {
			return nil, fmt.Errorf("list %s: %w", folder, err)
		}
		batch, err := f.ReadDir(readDirBatch)
		for _, d := range batch {
			if e, ok, err := entryOf(base, d); err != nil {
				return nil, failed("list", base+d.Name(), l.dir, err)
			} else if ok {
				entries = append(entries, e)
			}
		}
		// A folder that was removed meanwhile says for ever that it is not there.
		if errors.Is(err, io.EOF) || len(batch) == 0 && os.IsNotExist(err) {
			return entries, nil
		} else if err != nil && !os.IsNotExist(err) {
			return nil, failed("list", folder, l.dir, err)
		}
	}
}

// entryOf is the entry of what a folder holds, unless that is neither a file
// nor a folder that keys can lie in, or is gone by now.
func entryOf(base string, d fs.DirEntry) (entry, bool, error) {
	e := entry{key: base + d.Name(), isDir: d.IsDir(), isTemp: strings.HasPrefix(d.Name(), TempPrefix)}
	if e.isDir {
		return e, e.key != lostAndFound && CheckKey(e.key) == nil, nil
	}
	if !d.Type().IsRegular() {
		return entry{}, false, nil
	}
	info, err := d.Info()
	if isMissing(err) {
		return entry{}, false, nil
	} else if err != nil {
		return entry{}, false, err
	}
	e.size, e.modified = info.Size(), info.ModTime()
	return e, true, nil
}
