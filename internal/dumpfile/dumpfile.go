// Package dumpfile reads a dump that another program made: pg_dump's or pg_dumpall's,
// compressed and encrypted by whatever a script used. Nothing of the file is believed:
// what it is comes from its first bytes and never from its name, its layers are peeled
// as a stream in bounded memory, and it becomes one SQL script, whose statements are
// checked against those that pg_dump writes.
//
// The file has no manifest. What can be known of it is that its layers end where they
// should, that it ends as pg_dump ends a dump, and that a checksum beside it is right.
package dumpfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// Format is what a dump is once its layers are peeled.
type Format string

// The formats.
const (
	// FormatPlain is the SQL of pg_dump, or of pg_restore --file.
	FormatPlain Format = "plain"
	// FormatCluster is the SQL of pg_dumpall.
	FormatCluster Format = "pg_dumpall"
	// FormatCustom, FormatTar and FormatDirectory are those of pg_dump's -Fc, -Ft and
	// -Fd. A folder of -Fd that somebody put into a tar is FormatDirectory, too.
	FormatCustom    Format = "custom"
	FormatTar       Format = "tar"
	FormatDirectory Format = "directory"
)

// Options say which dump is read, and with what. Required: Path.
type Options struct {
	// Path is a file, or the folder of a dump of -Fd.
	Path string
	// Format, if not empty, is the only one that is accepted.
	Format Format
	// Identities open age files that are encrypted to public keys.
	Identities []age.Identity
	// Passphrase opens files of openssl enc, and age files with a passphrase.
	Passphrase string
	// Iterations, if not zero, is an -iter of openssl enc that is tried as well.
	Iterations int
	// Tools finds pg_restore, for archives.
	Tools pgtool.Finder
	// MaxBytes bounds the dump once it is unpacked, against files that were made to
	// fill a disk. Zero means 100 times what is stored, and at least 1 GiB.
	MaxBytes int64
	// Staging makes a private folder, for the dump of -Fd in a tar, which pg_restore
	// reads as files, and for a folder of -Fd that other users can change. Nil refuses such
	// dumps.
	Staging func() (dir string, remove func(), err error)
}

// The defaults of Options.MaxBytes.
const (
	maxRatio     = 100
	leastMaximum = 1 << 30
)

// File is a dump that was recognised.
type File struct {
	o Options

	// Layers are those around the dump, the outermost first, in words.
	Layers []string
	Format Format
	// Encrypted is true where one of the layers is an encryption, and Authenticated
	// where all those notice changed bytes: age does, openssl enc does not.
	Encrypted, Authenticated bool
	// Database is the one that the dump is of, where it says so; else empty.
	Database string
	// Program is the version of the pg_dump that wrote it, and Server that of the
	// server, as the dump says; empty where it does not.
	Program, Server string
	// StoredBytes is the size of the file or of all files of the folder.
	StoredBytes int64
	// ModifiedAt is when the file was last written, as its file system says.
	ModifiedAt time.Time

	minor      int                     // of the version of an archive's format
	derivation *seal.OpenSSLDerivation // that of the openssl layer, once it is known
	identities []age.Identity
	sha256     string // once Checksum has read the file
	tool       pgtool.Tool
	folder     string // of a directory, unpacked, copied, or as it was given
	given      bool   // as a folder
	remove     func()
}

// Open recognises a dump and reads no more than that takes. A dump that is damaged, a
// wrong passphrase, or what is in it but no pg_dump writes, is an error of
// KindIntegrity; what this program does not read is one of KindUsage, which says what
// does. The caller calls Close.
func Open(ctx context.Context, o Options) (*File, error) {
	f := &File{o: o, remove: func() {}, Authenticated: true}
	info, err := os.Stat(o.Path)
	if err != nil {
		return nil, f.unreadable(err)
	}
	f.StoredBytes, f.ModifiedAt = info.Size(), info.ModTime()
	switch {
	case info.IsDir():
		if err := f.openFolder(ctx); err != nil {
			f.Close()
			return nil, err
		}
	case !info.Mode().IsRegular():
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "name a file, or - for standard input", "%s is not a regular file", o.Path)
	default:
		if err := f.openFile(ctx); err != nil {
			return nil, err
		}
	}
	if o.Format != "" && o.Format != f.Format {
		f.Close()
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave --format out: the format is read from the dump", "%s is a dump in %s format, not %s", o.Path, f.Format, o.Format)
	}
	if f.Format == FormatPlain || f.Format == FormatCluster {
		return f, nil
	}
	if f.tool, err = o.Tools.Find(ctx, "pg_restore", major(f.Program)); err != nil {
		f.Close()
		if f.Program != "" {
			err = fmt.Errorf("this archive is of pg_dump %s: %w", f.Program, err)
		}
		return nil, err
	}
	return f, nil
}

// Close removes what was unpacked.
func (f *File) Close() {
	f.remove()
	f.remove = func() {}
}

// unreadable is the error of a file that can't be read, which says nothing about it.
func (f *File) unreadable(err error) error {
	kind, hint := pgmedic.KindUnreachable, "check that the file can be read by the user who runs pgmedic"
	if errors.Is(err, os.ErrNotExist) {
		kind, hint = pgmedic.KindNotFound, "check the path"
	}
	return pgmedic.Errorf(kind, hint, "read the dump: %w", err)
}

// damaged is the error of a dump whose bytes are not what they should be.
func (f *File) damaged(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "use another copy of it, or another dump", "%s: "+format, append([]any{f.o.Path}, args...)...)
}

// maxBytes is Options.MaxBytes, or its default.
func (f *File) maxBytes() int64 {
	if f.o.MaxBytes > 0 {
		return f.o.MaxBytes
	}
	return max(leastMaximum, f.StoredBytes*maxRatio)
}

// stored is the file as it lies there, being read and hashed.
type stored struct {
	file *File
	f    *os.File
	sum  hash.Hash
}

func (f *File) openStored() (*stored, error) {
	file, err := os.Open(f.o.Path)
	if err != nil {
		return nil, f.unreadable(err)
	}
	return &stored{file: f, f: file, sum: sha256.New()}, nil
}

// Read implements io.Reader. Its errors say that they are the disk's.
func (s *stored) Read(p []byte) (int, error) {
	n, err := s.f.Read(p)
	s.sum.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.file.unreadable(err)
	}
	return n, err
}

// rest reads what is left, and reports whether the whole was what Checksum read.
func (s *stored) rest() error {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	if sum := hex.EncodeToString(s.sum.Sum(nil)); s.file.sha256 != "" && sum != s.file.sha256 {
		return s.file.damaged("it was changed while it was read")
	}
	return nil
}

func (s *stored) Close() error { return s.f.Close() }

// Checksum reads the whole file and returns its SHA-256 in hex. Of a folder it
// returns none. Every later reading must give the same bytes, or fails.
func (f *File) Checksum(ctx context.Context) (string, error) {
	if f.sha256 != "" || f.isFolder() {
		return f.sha256, nil
	}
	s, err := f.openStored()
	if err != nil {
		return "", err
	}
	defer func() { _ = s.Close() }() // only read
	if _, err := io.Copy(io.Discard, &cancelled{ctx, s}); err != nil {
		return "", err
	}
	f.sha256 = hex.EncodeToString(s.sum.Sum(nil))
	return f.sha256, nil
}

// isFolder reports whether the dump was given as a folder.
func (f *File) isFolder() bool { return f.given }

// cancelled ends a reader with its context.
type cancelled struct {
	ctx context.Context // a reader has no other way to be ended
	r   io.Reader
}

// Read implements io.Reader.
func (c *cancelled) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, fmt.Errorf("read the dump: %w", context.Cause(c.ctx))
	}
	return c.r.Read(p)
}

// openFolder reads what a folder of -Fd says of itself, of a private copy if other users
// can change it.
func (f *File) openFolder(ctx context.Context) error {
	f.given, f.folder = true, f.o.Path
	_, err := os.Lstat(filepath.Join(f.o.Path, tocName))
	if errors.Is(err, os.ErrNotExist) {
		return pgmedic.Errorf(pgmedic.KindUsage, "name the dump's file, or the folder that pg_dump -Fd wrote", "%s is a folder without a %s", f.o.Path, tocName)
	}
	if err != nil {
		return f.unreadable(err)
	}
	f.Format = FormatDirectory
	open, err := changeable(f.o.Path)
	if err != nil {
		return f.unreadable(err)
	}
	if open {
		if f.folder, err = f.takePrivate(ctx); err != nil {
			return err
		}
	}
	if err := f.checkFolder(f.folder); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.folder)
	if err != nil {
		return f.unreadable(err)
	}
	f.StoredBytes = 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			f.StoredBytes += info.Size()
		}
	}
	return nil
}
