// Package history keeps Readings of databases in one SQLite file, thinned with
// age, so that a report can say what changed since.
//
// A report never waits long for its history, nor fails for it: two reports at
// once wait for each other for a bounded time, a broken file is kept aside and a
// new one begun, and whatever else goes wrong is an error that the caller tells
// and goes on without. The file has a rollback journal and no write-ahead log:
// one file that is whole between two reports, wherever it is kept, and that the
// next report mends after a kill.
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"modernc.org/sqlite"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say where a history is.
type Options struct {
	// Path is the file. It and its folder are made, for this user alone.
	Path string
	// ReadOnly reads and never writes: no file is made, and Add refuses.
	ReadOnly bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Wait bounds how long to wait for another process that has the file; zero is
	// 2 s.
	Wait time.Duration
	// MaxBytes bounds the file: what is oldest goes first. Zero is 256 MiB.
	MaxBytes int64
}

// Key names the series of Readings of one database. Two servers can share the
// system identifier, a standby with its primary or a copy with its original:
// Node tells them apart.
type Key struct {
	// Node is how the server is reached, such as db.internal:5432. Empty, for
	// reading alone, is any where there is only one.
	Node             string
	SystemIdentifier string
	Database         string
}

// History is an open file. It is not safe for concurrent use; Close it.
type History struct {
	opts    Options
	db      *sql.DB
	file    fs.FileInfo // which file is open
	zip     *zstd.Encoder
	unzip   *zstd.Decoder
	notices []string
}

// Open opens a history, and makes it where there is none. A broken file is kept
// aside, see Notices. A file that a newer version wrote, or another program, is
// left alone and is a KindUsage error; one that can't be opened or made is
// KindUnreachable, and in ReadOnly one that isn't there fs.ErrNotExist.
func Open(ctx context.Context, opts Options) (*History, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Wait <= 0 {
		opts.Wait = 2 * time.Second
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = 256 << 20
	}
	h := &History{opts: opts}
	var err error
	if h.zip, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)); err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	if h.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(256<<20)); err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	if err := h.open(ctx); err != nil {
		if isBroken(err) {
			err = h.startAnew(ctx)
		}
		if err != nil {
			return nil, errors.Join(h.wrap(ctx, "open", err), h.Close())
		}
	}
	return h, nil
}

// Notices says what the reader of a report has to know: that a broken file was
// kept aside, or that Readings could not be read.
func (h *History) Notices() []string { return h.notices }

// Close closes the file.
func (h *History) Close() error {
	if h.unzip != nil {
		h.unzip.Close()
	}
	if h.db == nil {
		return nil
	}
	err := h.db.Close()
	h.db = nil
	return err
}

// open opens the file and sees that it is a history.
func (h *History) open(ctx context.Context) error {
	if err := h.prepareFile(); err != nil {
		return err
	}
	var err error
	if h.db, err = sql.Open("sqlite", h.source()); err != nil {
		return err
	}
	// One connection: what it has set is set.
	h.db.SetMaxOpenConns(1)
	if h.file, err = os.Stat(h.opts.Path); err != nil {
		return err
	}
	return h.checkSchema(ctx)
}

// prepareFile makes the file, since SQLite would let the whole group read it.
func (h *History) prepareFile() error {
	info, err := os.Stat(h.opts.Path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return pgmedic.Errorf(pgmedic.KindUsage, "name another with report.history, or off", "%s is not a file", h.opts.Path)
	case err == nil, h.opts.ReadOnly:
		return err
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(h.opts.Path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(h.opts.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// source is the file as the driver wants it named.
func (h *History) source() string {
	// What a URI would read otherwise.
	path := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(filepath.ToSlash(h.opts.Path))
	source := fmt.Sprintf("file:%s?_txlock=immediate&_pragma=busy_timeout(%d)&_pragma=trusted_schema(0)&_pragma=cell_size_check(1)",
		path, h.opts.Wait.Milliseconds())
	if h.opts.ReadOnly {
		source += "&mode=ro"
	}
	return source
}

// errBroken is a file that should be a history and isn't one.
var errBroken = errors.New("it is damaged")

// isBroken reports whether an error is about what is in the file, and not about
// reaching it. See https://www.sqlite.org/rescode.html.
func isBroken(err error) bool {
	const corrupt, notADatabase = 11, 26
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()&0xff == corrupt || e.Code()&0xff == notADatabase
	}
	return errors.Is(err, errBroken)
}

// startAnew keeps a broken file aside and begins a new one.
func (h *History) startAnew(ctx context.Context) error {
	if h.opts.ReadOnly {
		return errBroken
	}
	if h.db != nil {
		// It failed already; what else closing says of it is not news.
		_ = h.db.Close()
		h.db = nil
	}
	// Another report may have done so meanwhile: its new file must stay.
	if now, err := os.Stat(h.opts.Path); err == nil && os.SameFile(h.file, now) {
		aside := h.opts.Path + ".broken-" + h.opts.Now().UTC().Format("20060102T150405.000000Z")
		// The journal first: beside a new file it would be played into that.
		if err := os.Rename(h.opts.Path+"-journal", aside+"-journal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep a broken file aside: %w", err)
		}
		if err := os.Rename(h.opts.Path, aside); err != nil {
			return fmt.Errorf("keep a broken file aside: %w", err)
		}
		h.notices = append(h.notices, fmt.Sprintf("%s is damaged: kept aside as %s, and a new one begun", h.opts.Path, filepath.Base(aside)))
	}
	return h.open(ctx)
}

// mended does something with the file; where that shows it to be broken, it does
// it again with a new one.
func (h *History) mended(ctx context.Context, doing string, do func() error) error {
	err := do()
	if err != nil && isBroken(err) {
		if err = h.startAnew(ctx); err == nil {
			err = do()
		}
	}
	return h.wrap(ctx, doing, err)
}

// wrap says what was attempted. A KindUsage error says enough itself.
func (h *History) wrap(ctx context.Context, doing string, err error) error {
	var known *pgmedic.Error
	var full *sqlite.Error
	const busy, fullDisk = 5, 13
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return pgmedic.Errorf(pgmedic.KindInterrupted, "", "%s the history: %w", doing, context.Cause(ctx))
	case errors.As(err, &known):
		return err
	case errors.As(err, &full) && full.Code()&0xff == busy:
		return pgmedic.Errorf(pgmedic.KindConflict, "", "%s the history %s: another process has had it for %s", doing, h.opts.Path, words.Duration(h.opts.Wait))
	case errors.As(err, &full) && full.Code()&0xff == fullDisk:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "", "%s the history %s: the disk is full", doing, h.opts.Path)
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "name another file with report.history, or off", "%s the history %s: %w", doing, h.opts.Path, err)
}

// KeyOf is the key of a Reading that was taken of a node.
func KeyOf(node string, r *reading.Reading) Key {
	return Key{Node: node, SystemIdentifier: r.Server.SystemIdentifier, Database: r.Database}
}
