// Package spool keeps messages in a folder from before they are sent until they have
// been, so that a run that is killed in between loses none. Runs share the folder: a
// message that one of them has is not given to another.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// suffix ends the names of the files of messages.
	suffix = ".message.json"
	// Most bounds the messages that wait, and mostBytes each. Both are our choice.
	Most      = 1000
	mostBytes = 4 << 20
)

// Folder is the folder, with what else is remembered from run to run. Every file in it is
// written whole or not at all, and readable for its owner only.
type Folder struct{ Dir string }

// Create makes the folder. One that others can write to is refused.
func (f Folder) Create() error {
	if f.Dir == "" {
		return errors.New("no folder for messages is known")
	}
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for messages: %w", err)
	}
	f.sweep()
	info, err := os.Stat(f.Dir)
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = errors.New("others can write into it; chmod 700 it")
	}
	if err != nil {
		return fmt.Errorf("use the folder for messages: %w", err)
	}
	return nil
}

// begun begins the names of files that are being written.
const begun = ".new-"

// sweep removes what runs left that were killed while they wrote a file: those of an hour
// ago, which is longer than any write takes. It does not end the run.
func (f Folder) sweep() {
	left, err := filepath.Glob(filepath.Join(f.Dir, begun+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(path)
		}
	}
}

// write writes a file and returns it, open and locked if lock is asked for. The lock is
// there before the name is.
func (f Folder) write(name string, data []byte, lock bool) (file *os.File, err error) {
	file, err = os.CreateTemp(f.Dir, begun+"*")
	if err != nil {
		return nil, fmt.Errorf("write into the folder for messages: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
			file, err = nil, fmt.Errorf("write into the folder for messages: %w", err)
		}
	}()
	if lock {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, err
		}
	}
	if _, err = file.Write(data); err != nil {
		return nil, err
	}
	if err = file.Sync(); err != nil {
		return nil, err
	}
	if err = os.Rename(file.Name(), filepath.Join(f.Dir, name)); err != nil {
		return nil, err
	}
	return file, durable.Folder(f.Dir)
}

// lockWait is how long the folder's lock is waited for. Runs hold it while they read and
// write a few small files, and never while they send.
const lockWait = 10 * time.Second

// Lock takes the folder's lock; the caller calls unlock.
func (f Folder) Lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(f.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the folder for messages: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("lock the folder for messages: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Write writes a file that is not a message.
func (f Folder) Write(name string, data []byte) error {
	file, err := f.write(name, data, false)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write into the folder for messages: %w", err)
	}
	return nil
}

// Message is one that is kept, and that no other run has meanwhile.
type Message struct {
	// Name is that of its file.
	Name string
	Data []byte

	file *os.File
	path string
}

// Remove removes a message that need not be sent any more.
func (m *Message) Remove() {
	_ = os.Remove(m.path) // what can't be removed is sent again, with the same id
	_ = m.file.Close()
}

// Release leaves it to the next run.
func (m *Message) Release() { _ = m.file.Close() }

// Name is the name of a message's file. Names sort as ids do.
func Name(id, channel string) string { return id + "-" + channel + suffix }

// Put writes a message down.
func (f Folder) Put(name string, data []byte) (*Message, error) {
	waiting, err := f.Waiting()
	if err != nil {
		return nil, err
	}
	if len(data) > mostBytes {
		return nil, fmt.Errorf("it has more than %s", words.Size(mostBytes))
	}
	if len(waiting) >= Most {
		return nil, fmt.Errorf("%d messages wait already", len(waiting))
	}
	file, err := f.write(name, data, true)
	if err != nil {
		return nil, err
	}
	return &Message{Name: name, Data: data, file: file, path: filepath.Join(f.Dir, name)}, nil
}

// Waiting returns the names of the messages that were not sent, in order.
func (f Folder) Waiting() (names []string, err error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("read the folder for messages: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Take returns a message, or nil where another run has it or has sent it. What can't be
// read is removed, with an error.
func (f Folder) Take(name string) (*Message, error) {
	file, err := f.take(name)
	if file == nil {
		return nil, err
	}
	m := &Message{Name: name, file: file, path: filepath.Join(f.Dir, name)}
	if m.Data, err = io.ReadAll(io.LimitReader(file, mostBytes)); err != nil {
		m.Remove()
		return nil, fmt.Errorf("read a kept message, which is dropped: %w", err)
	}
	return m, nil
}

// take opens a file and locks it. It returns nil where another run has it, or where it is
// gone.
func (f Folder) take(name string) (*os.File, error) {
	path := filepath.Join(f.Dir, name)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open a kept message: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, file.Close() //nolint:wrapcheck // of a file that was only opened
	}
	var mine, there fs.FileInfo
	if err == nil {
		mine, err = file.Stat()
	}
	if err == nil {
		there, err = os.Lstat(path)
	}
	// Another run may have sent and removed it before the lock was this one's.
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(mine, there) {
		return nil, file.Close() //nolint:wrapcheck // as above
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open a kept message: %w", err)
	}
	return file, nil
}
