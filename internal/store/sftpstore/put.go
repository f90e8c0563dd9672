package sftpstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/pkg/sftp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// blockBytes is how much is on its way at a time, in packets of 32 KiB that don't wait
	// for each other; another block is read meanwhile.
	blockBytes = 1 << 20
	// maxMakeDir is how often Put makes a folder that others keep removing because it is
	// empty.
	maxMakeDir = 100
	// maxRefused is how often of those the server may say that it can't.
	maxRefused = 10
	// publishWithin bounds how long it takes to find out whether an object was made.
	publishWithin = time.Minute
	// linkedMode is what a file's mode is for a moment, to see whether two names are one
	// file.
	linkedMode = 0o400
)

// upload is one Put.
type upload struct {
	s    *Store
	key  string
	temp string // the key of the temporary file
	line *line
	file *sftp.File // nil once it is closed
	size int64
}

// Put implements store.Store. Where the connection is lost while the object is given its
// name, it finds out on a new one whether that was done, also where ctx ended meanwhile.
func (s *Store) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	const op = "put"
	if err := s.begin(ctx, op, key); err != nil {
		return store.Object{}, err
	}
	// The link below decides; looking now spares sending for nothing.
	if there, err := s.lstat(ctx, key); err != nil {
		return store.Object{}, s.failed(ctx, op, key, err)
	} else if there != nil {
		return store.Object{}, store.Exists(key)
	}
	u := &upload{s: s, key: key}
	release, err := u.create(ctx)
	if err != nil {
		return store.Object{}, s.failed(ctx, op, key, err)
	}
	defer release()
	done := false
	defer func() { // also when r panics
		if !done {
			u.discard(ctx)
		}
	}()
	if err := u.fill(ctx, r); err != nil {
		return store.Object{}, err
	}
	info, err := u.finish(ctx)
	if err != nil {
		return store.Object{}, s.failed(ctx, op, key, err)
	}
	// Nothing is visible yet.
	if err := store.Ended(ctx); err != nil {
		return store.Object{}, fmt.Errorf("put %s: %w", key, err)
	}
	if err := u.publish(ctx); err != nil {
		return store.Object{}, err
	}
	done = true
	// One that stays is another name of the object, which SweepTemp removes without harm.
	removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	if err := s.remove(removing, u.temp); err != nil {
		s.log.Warn("a temporary file could not be removed", "store", s.name, "file", u.temp, "error", err)
	}
	return object(key, info), nil
}

// create makes the temporary file, and the folder where it is missing.
func (u *upload) create(ctx context.Context) (release func(), err error) {
	folder := parentOf(u.key)
	for lost := 0; ; lost++ {
		if u.line, release, err = u.s.line(ctx); err == nil {
			u.temp = folder + "/" + store.TempPrefix + rand.Text()
			if err = u.line.lacking; err != nil {
				release()
				return nil, err
			}
			err = u.line.call(ctx, func() error { return u.createIn(u.line.client, folder) })
			if err == nil {
				return release, nil
			}
			release()
		}
		if answered(err) || isFinal(err) || lost == attempts-1 || !store.Pause(ctx, lost) {
			return nil, err
		}
	}
}

func (u *upload) createIn(c *sftp.Client, folder string) error {
	refused := 0
	for try := 0; ; try++ {
		f, err := c.OpenFile(u.s.file(u.temp), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err == nil {
			if err = f.Chmod(fileMode); err != nil { // before there is anything to be read
				return errors.Join(err, f.Close(), c.Remove(u.s.file(u.temp)))
			}
			u.file = f
			return nil
		}
		// A Delete may remove the folder while it is still empty.
		if !errors.Is(err, fs.ErrNotExist) || try == maxMakeDir {
			return err
		}
		// Nor does SFTP say why a folder can't be made: it may be there, and gone again.
		if err := u.s.makeDir(c, folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			var status *sftp.StatusError
			if refused++; !errors.As(err, &status) || !answered(err) || refused == maxRefused {
				return err
			}
		}
		if info, err := c.Stat(u.s.o.Dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			return answerError{errGone}
		}
	}
}

// errNoFolder says that an object has the name of a folder.
var errNoFolder = errors.New("an object has the name of a folder of this one")

// makeDir makes folder and its parents as far as they are missing, but not Dir.
func (s *Store) makeDir(c *sftp.Client, folder string) error {
	if folder == "." {
		return nil
	}
	if err := s.makeDir(c, parentOf(folder)); err != nil {
		return err
	}
	err := c.Mkdir(s.file(folder))
	if err == nil {
		return c.Chmod(s.file(folder), dirMode)
	}
	info, statErr := c.Stat(s.file(folder))
	switch {
	case statErr == nil && info.IsDir():
		return nil
	case statErr == nil:
		return answerError{errNoFolder}
	case !answered(statErr):
		return statErr
	}
	return err
}

// fill sends all of r.
func (u *upload) fill(ctx context.Context, r io.Reader) error {
	var blocks [2][]byte
	var sending *request
	arrived := func(ctx context.Context) error {
		if sending == nil {
			return nil
		}
		err := sending.wait(ctx)
		sending = nil
		return err
	}
	// What is on its way ends before its block and the file are let go of.
	defer func() { _ = arrived(ctx) }()
	for i := 0; ; i++ {
		block := &blocks[i%2]
		if *block == nil {
			*block = make([]byte, blockBytes)
		}
		n, err := store.ReadBlock(ctx, r, *block)
		if sendErr := arrived(ctx); sendErr != nil {
			return u.s.failed(ctx, "put", u.key, sendErr)
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("put %s: %w", u.key, err)
		}
		if n > 0 {
			data, file := (*block)[:n], u.file
			sending = u.line.start(func() error {
				_, err := file.Write(data)
				return err
			})
			u.size += int64(n)
		}
		if err == io.EOF {
			if err := arrived(ctx); err != nil {
				return u.s.failed(ctx, "put", u.key, err)
			}
			return nil
		}
	}
}

// finish has the server flush the file to its disk, and closes it.
func (u *upload) finish(ctx context.Context) (info fs.FileInfo, err error) {
	err = u.line.call(ctx, func() error {
		if err := u.file.Sync(); err != nil {
			return err
		}
		var err error
		if info, err = u.file.Stat(); err != nil {
			return err
		}
		file := u.file
		u.file = nil
		return file.Close()
	})
	if err == nil && info.Size() != u.size {
		err = answerError{fmt.Errorf("the server says that of %d bytes %d have arrived", u.size, info.Size())}
	}
	return info, err
}

// publish gives the temporary file the object's name. It does so to the end, or so far
// that it knows, whether or not ctx ends meanwhile.
func (u *upload) publish(callers context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(callers), publishWithin)
	defer cancel()
	s, lost := u.s, false
	link := func(l *line) error {
		err := l.client.Link(s.file(u.temp), s.file(u.key))
		if err == nil || !answered(err) {
			lost = lost || err != nil
			return err
		}
		if lost {
			if ours, ourErr := s.isLinked(l.client, u.temp, u.key); ourErr != nil || ours {
				return ourErr
			}
		}
		// SFTP has one answer for most of what can be wrong.
		switch _, statErr := l.client.Lstat(s.file(u.key)); {
		case statErr == nil:
			return answerError{store.ErrExists}
		case !answered(statErr):
			return statErr
		}
		return err
	}
	err := s.try(ctx, link)
	switch {
	case err != nil && ctx.Err() != nil: // and not the caller's
		return pgmedic.Errorf(pgmedic.KindUnreachable, "look at the network and the server, and run it again",
			"put %s: %s does not answer; the object may be there or not", u.key, s.name)
	case errors.Is(err, store.ErrExists):
		return store.Exists(u.key)
	case errors.Is(err, fs.ErrPermission):
		return pgmedic.Errorf(pgmedic.KindUnreachable, fmt.Sprintf("let %s write all of %s, on a file system that has hard links", s.o.User, s.o.Dir),
			"put %s: %s does not let a file be linked: %w", u.key, s.name, err)
	}
	return s.failedOrNil(ctx, "put", u.key, err)
}

// isLinked reports whether two keys are names of one file: what is done to the mode of
// the one is then seen at the other.
func (s *Store) isLinked(c *sftp.Client, one, other string) (bool, error) {
	for _, mode := range []fs.FileMode{linkedMode, fileMode} {
		if err := c.Chmod(s.file(one), mode); err != nil {
			return false, err
		}
		info, err := c.Lstat(s.file(other))
		if errors.Is(err, fs.ErrNotExist) {
			return false, c.Chmod(s.file(one), fileMode)
		} else if err != nil {
			return false, err
		}
		if info.Mode().Perm() != mode {
			return false, c.Chmod(s.file(one), fileMode)
		}
	}
	return true, nil
}

// remove removes a file that may be gone already.
func (s *Store) remove(ctx context.Context, key string) error {
	err := s.try(ctx, func(l *line) error { return l.client.Remove(s.file(key)) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// discard removes the temporary file of a Put that failed, and what folders that leaves
// empty. The Put's own error is what matters.
func (u *upload) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	if u.file != nil && !u.line.ended() {
		_ = u.line.call(ctx, u.file.Close) // it is removed
	}
	err := u.s.remove(ctx, u.temp)
	if err == nil {
		err = u.s.tidy(ctx, parentOf(u.key))
	}
	if err != nil {
		u.s.log.Warn("a temporary file was left behind", "store", u.s.name, "file", u.temp, "error", err)
	}
}
