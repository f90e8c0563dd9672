package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/owner"
)

const (
	// copyBuffer is how much is written at a time.
	copyBuffer = 512 << 10
	// flushEvery is how much gathers before the disk is set to work on it, so
	// that the flush at the end does not find all of a large object to do.
	flushEvery = 8 << 20
	// maxEmptyReads is how often in a row a reader may return nothing.
	maxEmptyReads = 100
	// maxMakeDir is how often Put makes a folder that others keep removing
	// because it is empty.
	maxMakeDir = 100
)

// Put implements Store.
func (l *Local) Put(ctx context.Context, key string, r io.Reader) (Object, error) {
	const op = "put"
	if err := l.begin(ctx, op, key); err != nil {
		return Object{}, err
	}
	// The link below decides; looking now spares copying for nothing.
	if _, err := l.root.Lstat(key); err == nil {
		return Object{}, Exists(key)
	}
	folder := parentOf(key)
	f, temp, err := l.createTemp(folder, l.shared != nil && l.shared(key))
	if errors.Is(err, syscall.ENOTDIR) {
		return Object{}, fmt.Errorf("an object has the name of a folder of this one: %w", Exists(key))
	} else if err != nil {
		return Object{}, failed(op, key, l.dir, err)
	}
	done := false
	defer func() { // also when r panics
		if !done {
			f.Close()
			l.discard(folder, temp)
		}
	}()
	info, err := l.fill(ctx, key, f, r)
	if err != nil {
		return Object{}, err
	}
	if err := l.publish(folder, temp, key, info); err != nil {
		return Object{}, err
	}
	done = true
	return object(key, info), nil
}

// createTemp makes a temporary file in folder, and folder if it is missing. Shared ones
// belong to the owners of their folders.
func (l *Local) createTemp(folder string, shared bool) (*os.File, string, error) {
	temp := folder + "/" + TempPrefix + rand.Text()
	for try := 0; ; try++ {
		f, err := l.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
		if err == nil {
			if err = f.Chmod(fileMode); err == nil && shared {
				err = owner.GiveIn(l.root, folder, f)
			}
			if err != nil {
				f.Close()
				l.discard(folder, temp)
				return nil, "", err
			}
			return f, temp, nil
		}
		// A Delete may remove the folder while it is still empty.
		if !errors.Is(err, fs.ErrNotExist) || try == maxMakeDir {
			return nil, "", err
		}
		if err := l.makeDir(folder, shared); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
}

// makeDir makes folder and its parents as far as they are missing. They are
// durable only after publish.
func (l *Local) makeDir(folder string, shared bool) error {
	if folder == "." {
		return nil
	}
	if err := l.makeDir(parentOf(folder), shared); err != nil {
		return err
	}
	switch err := l.root.Mkdir(folder, dirMode); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	if err := l.root.Chmod(folder, dirMode); err != nil || !shared {
		return err
	}
	return owner.GiveFolderIn(l.root, parentOf(folder), folder)
}

// fill copies r to f, flushes it to the disk and closes it.
func (l *Local) fill(ctx context.Context, key string, f *os.File, r io.Reader) (fs.FileInfo, error) {
	buf := make([]byte, copyBuffer)
	var written, started int64
	for eof := false; !eof; {
		n, err := ReadBlock(ctx, r, buf)
		if eof = err == io.EOF; err != nil && !eof {
			return nil, fmt.Errorf("put %s: %w", key, err)
		}
		if n == 0 {
			continue
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return nil, failed("put", key, l.dir, err)
		}
		if written += int64(n); written-started >= flushEvery {
			startFlush(f, started, written-started)
			started = written
		}
	}
	if err := Ended(ctx); err != nil {
		return nil, fmt.Errorf("put %s: %w", key, err)
	}
	if err := f.Sync(); err != nil {
		return nil, failed("put", key, l.dir, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, failed("put", key, l.dir, err)
	}
	if err := f.Close(); err != nil {
		return nil, failed("put", key, l.dir, err)
	}
	// A flush may have taken long; nothing is visible yet.
	if err := Ended(ctx); err != nil {
		return nil, fmt.Errorf("put %s: %w", key, err)
	}
	return info, nil
}

// ReadBlock fills buf from r as far as that goes. Readers such as pipes give
// little at a time, and each write costs a system call. An error is io.EOF
// only if r returned just that; ctx is looked at before each read.
func ReadBlock(ctx context.Context, r io.Reader, buf []byte) (int, error) {
	n, empty := 0, 0
	for n < len(buf) {
		if err := Ended(ctx); err != nil {
			return n, err
		}
		m, err := r.Read(buf[n:])
		if m < 0 || m > len(buf)-n {
			return n, fmt.Errorf("the reader returned %d bytes for a read of %d", m, len(buf)-n)
		}
		n += m
		if err == io.EOF {
			return n, err
		} else if err != nil {
			return n, ReadFailed(ctx, err)
		}
		if empty++; m > 0 {
			empty = 0
		} else if empty == maxEmptyReads {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// publish gives temp the name key, in place of its own, and makes that durable.
// On an error nothing is left under key.
func (l *Local) publish(folder, temp, key string, info fs.FileInfo) error {
	err := l.link(l.root, temp, key)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrExist):
		// NFS may answer a repeated request like this when the first got
		// through: then what is there is our own file.
		if there, e := l.root.Lstat(key); e != nil || !os.SameFile(there, info) {
			return Exists(key)
		}
	case hasNoLinks(err):
		if err := renameNoReplace(l.root, temp, key); errors.Is(err, fs.ErrExist) {
			return Exists(key)
		} else if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
			return pgmedic.Errorf(pgmedic.KindUsage, "keep backups on a file system that has hard links, such as ext4, XFS, ZFS or NFS",
				"put %s: the file system of %s can neither link files nor rename them without replacing", key, l.dir)
		} else if err != nil {
			return failed("put", key, l.dir, err)
		}
	default:
		return failed("put", key, l.dir, err)
	}
	// After a rename it is gone; one that stays is another name of the object,
	// which SweepTemp removes without harm.
	if err := l.root.Remove(temp); err != nil && !isMissing(err) {
		l.log.Warn("a temporary file could not be removed", "dir", l.dir, "file", temp, "error", err)
	}
	return l.syncUp(folder, key)
}

// syncUp makes the new name key in folder durable, or removes it again. Where folder has gone
// by now, others have deleted the object, and the folder with it: the Put came before that.
func (l *Local) syncUp(folder, key string) error {
	// All folders up to Dir, not only those that this Put made: another Put
	// may have made them and not have come to this line yet.
	for {
		err := durable.Opened(l.root.Open(folder))
		if folder != "." && isMissing(err) {
			err = l.gone()
		}
		if err != nil {
			_ = l.root.Remove(key) // the error that matters is below
			return failed("put", key, l.dir, err)
		}
		if folder == "." {
			return nil
		}
		folder = parentOf(folder)
	}
}

// discard removes the temporary file of a Put that failed, and what folders
// that leaves empty. The Put's own error is what matters.
func (l *Local) discard(folder, temp string) {
	err := l.root.Remove(temp)
	if err == nil || isMissing(err) {
		err = l.tidy(folder)
	}
	if err != nil {
		l.log.Warn("a temporary file was left behind", "dir", l.dir, "file", temp, "error", err)
	}
}

// hasNoLinks reports whether err says that the file system can't link files.
// Linux says EPERM where it means this.
func hasNoLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EMLINK)
}
