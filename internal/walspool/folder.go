// Package walspool keeps WAL on a local disk from when a server has sent it until it is
// stored: what was flushed is there after a crash of the host, to the byte.
package walspool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The errors that callers branch on.
var (
	// ErrFull is found where the spool has no room for more WAL: its bound, or its disk.
	ErrFull = errors.New("the spool is full")
	// ErrDamaged is found where WAL that was flushed can no longer be read.
	ErrDamaged = errors.New("the spool is damaged")
)

// MinSegments is how many segments a spool must have room for: one that is being stored, one
// that is full, and the one that is being received, with their frames. This is our choice.
const MinSegments = 4

// Options of a Folder.
type Options struct {
	// Dir is the folder, which is made if it does not exist.
	Dir string
	// MaxBytes is how much the spool of one cluster may take: room for MinSegments or more.
	MaxBytes int64
	// Logger gets what a person should know. Nil discards it.
	Logger *slog.Logger
}

// Folder holds the spools of clusters, each in a folder of its own with the name of its
// system identifier. Its methods may be called at the same time.
type Folder struct {
	o Options

	mu   sync.Mutex
	open map[uint64]*Spool
}

// NewFolder returns the Folder. It touches no disk.
func NewFolder(o Options) (*Folder, error) {
	if o.Dir == "" || o.MaxBytes <= 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "give a folder and how much it may take", "a spool has no folder or no room")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Folder{o: o, open: map[uint64]*Spool{}}, nil
}

// Dir is where the folder is.
func (f *Folder) Dir() string { return f.o.Dir }

// Cluster is what a spool is of.
type Cluster struct {
	// Server is the name that the WAL is stored under; empty is the system identifier.
	Server string `json:"server"`
	// SystemIdentifier is the number that initdb gave the cluster.
	SystemIdentifier uint64 `json:"system_identifier,string"`
	// SegmentBytes is the size of its segments.
	SegmentBytes int64 `json:"segment_bytes"`
	// ServerVersion is PostgreSQL's, such as 15.18.
	ServerVersion string `json:"server_version"`
}

// SegmentSize is SegmentBytes.
func (c Cluster) SegmentSize() wal.SegmentSize { return wal.SegmentSize(c.SegmentBytes) }

const (
	clusterFile = "cluster.json"
	lockFile    = "lock"
	// maxClusterFile bounds what is read of clusterFile.
	maxClusterFile = 64 << 10
)

// Open returns the spool of a cluster, which is made if it does not exist. Another process
// that has it is a pgmedic.KindConflict error, and so is a spool with WAL that was to be
// stored under another name.
func (f *Folder) Open(c Cluster) (*Spool, error) {
	if !c.SegmentSize().Valid() || c.SystemIdentifier == 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "", "a spool needs a system identifier and the size of segments")
	}
	if least := MinSegments * c.SegmentBytes; f.o.MaxBytes < least {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, fmt.Sprintf("give it %d MB or more (wal.spool_max_mb)", least>>20), "the spool may take %s, which is too little for segments of %s", words.Bytes(f.o.MaxBytes), words.Bytes(c.SegmentBytes))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.open[c.SystemIdentifier]
	var err error
	if s != nil {
		err = s.adopt(c)
	} else {
		s, err = f.openLocked(c.SystemIdentifier, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("open the spool of WAL in %s: %w", f.o.Dir, err)
	}
	f.open[c.SystemIdentifier] = s
	return s, nil
}

// Existing returns the spools that there are of a server. Each is this process's until
// Close.
func (f *Folder) Existing(server string) (found []*Spool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	entries, err := os.ReadDir(f.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the spools of WAL: %w", err)
	}
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil || id == 0 || strconv.FormatUint(id, 10) != e.Name() || !e.IsDir() {
			continue
		}
		s := f.open[id]
		if s == nil {
			c, err := readCluster(filepath.Join(f.o.Dir, e.Name()))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue // its maker was killed before anything was in it
			case err != nil:
				return nil, fmt.Errorf("open the spool of WAL in %s: %w", f.o.Dir, err)
			case c.Server != server || c.SystemIdentifier != id:
				continue
			}
			if s, err = f.openLocked(id, nil); err != nil {
				return nil, fmt.Errorf("open the spool of WAL in %s: %w", f.o.Dir, err)
			}
			f.open[id] = s
		}
		if s.Cluster().Server == server {
			found = append(found, s)
		}
	}
	return found, nil
}

// Close gives the spools up. What was flushed stays.
func (f *Folder) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, s := range f.open {
		s.close()
		delete(f.open, id)
	}
}

// openLocked locks and reads a spool. Without c it must exist.
func (f *Folder) openLocked(id uint64, c *Cluster) (*Spool, error) {
	dir := filepath.Join(f.o.Dir, strconv.FormatUint(id, 10))
	if c != nil {
		if err := makeFolders(f.o.Dir, dir); err != nil {
			return nil, err
		}
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, pgmedic.Errorf(pgmedic.KindConflict, "stop the other `pgmedic wal stream`, or give this one a spool of its own (--spool)",
				"another process uses %s", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	s, err := readSpool(f.o, dir, c)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// makeFolders makes the folder of a cluster, and has its name last, and those of all folders
// that were made for it: one that was there may be of a process that was killed before it did so.
func makeFolders(parent, dir string) error {
	above := []string{parent, filepath.Dir(parent)}
	for at := filepath.Dir(parent); at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		above = append(above, filepath.Dir(at))
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, folder := range above {
		if err := durable.Folder(folder); err != nil {
			return err
		}
	}
	return nil
}

// private refuses a folder that other accounts can get into: rows of all databases are in it.
func private(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "chmod 700 "+dir, "%s is not a folder that its owner alone can get into, and it holds rows of all databases", dir)
	}
	return nil
}

func readCluster(dir string) (c Cluster, err error) {
	path := filepath.Join(dir, clusterFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		// It is made before any WAL, and lasts before that is.
		entries, listErr := os.ReadDir(dir)
		if listErr != nil {
			return c, listErr
		}
		if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.Contains(e.Name(), suffix) }) {
			return c, damaged("%s is missing, and there is WAL beside it", path)
		}
	}
	if err != nil {
		return c, err
	}
	if info.Size() > maxClusterFile {
		return c, damaged("%s is too large", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if json.Unmarshal(text, &c) != nil || !c.SegmentSize().Valid() || c.SystemIdentifier == 0 {
		return c, damaged("%s can't be read", path)
	}
	return c, nil
}

// replace writes a small file, whole or not at all.
func replace(dir, name string, text []byte) error {
	temporary := filepath.Join(dir, name+".new")
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	return durable.Folder(dir)
}

func damaged(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "keep the folder until the server's WAL is stored, and see whether its disk is damaged", "%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
