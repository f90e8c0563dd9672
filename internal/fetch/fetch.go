// Package fetch writes what is in a backup into a folder as files that other programs
// read: SQL, archives of pg_dump, and the rows of COPY.
package fetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Part is what of a backup is fetched.
type Part string

// The parts. PartAll is the zero value.
const (
	PartAll     Part = ""
	PartSchema  Part = "schema"
	PartGlobals Part = "globals"
	PartData    Part = "data"
)

// Options say what is fetched and where to. Required: Source, Dir, Now.
type Options struct {
	restore.Source
	// Dir is the folder to make. It must not exist.
	Dir string
	// Only is a part of a parallel backup; a plain one is one file.
	Only Part
	// Tables are patterns of the tables whose rows are fetched, and nothing else: empty is
	// the whole backup.
	Tables []string
	// Sealed copies the objects as they are stored, and compares their hashes: no key
	// is needed.
	Sealed bool
	// FreeBytes returns the free space of a folder; nil does not ask.
	FreeBytes func(ctx context.Context, dir string) (int64, error)
	Progress  func(pgmedic.Event)
	Now       func() time.Time
}

// Fetched is what was written.
type Fetched struct {
	BackupID string `json:"backup_id"`
	Dir      string `json:"dir"`
	// Files and Bytes are those written; Rows those of tables in files of their own.
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	Rows  int64 `json:"rows"`
	// Sealed is true where what was written is still as it was stored.
	Sealed bool `json:"sealed"`
	// ByHand are tables whose names psql can't take in a command of one line: their
	// rows are there, and load.sql has a comment in place of the command.
	ByHand []string `json:"by_hand,omitempty"`
}

// Run fetches a backup. Every byte is compared with what the backup recorded. The
// folder gets its name when all is written: when Run returns an error there is none. An
// interrupted run that could not clean up leaves DIR.part.
func Run(ctx context.Context, o Options) (*Fetched, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	chosen, err := o.tables()
	if err != nil {
		return nil, err
	}
	size := o.bytes()
	if chosen != nil {
		size = tableBytes(o.Backup, chosen)
	}
	if err := o.refuseFull(ctx, size); err != nil {
		return nil, err
	}
	part := o.Dir + ".part"
	if err := os.Mkdir(part, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, pgmedic.Errorf(pgmedic.KindConflict, "remove it, if no other run is writing it", "%s is there, which an interrupted run left", part)
		}
		return nil, pgmedic.Errorf(pgmedic.KindFailed, "check the folder above it, and who may write there", "make the folder: %w", err)
	}
	f := &fetching{Options: o, dir: part, chosen: chosen, done: &Fetched{BackupID: o.Backup.ID, Dir: o.Dir, Sealed: o.Sealed}}
	f.meter = progress.NewMeter(progress.MeterOptions{Step: "fetch", TotalBytes: size, Report: o.Progress, Now: o.Now})
	err = f.all(ctx)
	if err == nil {
		err = rename(part, o.Dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(part))
	}
	return f.done, nil
}

// rename gives the folder its name, and refuses one that has come meanwhile.
func rename(part, dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return exists(dir)
	}
	// The files are on the disk; their names have to be, too, and then that of the folder.
	err := filepath.WalkDir(part, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return durable.Folder(path)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(part, dir); err != nil {
		return fmt.Errorf("name the folder: %w", err)
	}
	if err := durable.Folder(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) { // one may be written to and not be read
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

func exists(dir string) error {
	return pgmedic.Errorf(pgmedic.KindConflict, "name a folder that does not exist yet", "%s exists already", dir)
}

func (o *Options) check() error {
	if o.Catalog == nil || o.Backup == nil || o.Dir == "" || o.Now == nil {
		return errors.New("fetch: Catalog, Backup, Dir and Now are required")
	}
	if _, err := os.Lstat(o.Dir); err == nil {
		return exists(o.Dir)
	}
	switch o.Only {
	case PartAll:
	case PartSchema, PartGlobals, PartData:
		if o.Sealed {
			return pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out", "--sealed copies the whole backup, and --only takes a part of what is inside")
		}
		if o.Backup.Method == pgmedic.MethodPlain && o.Only != PartGlobals {
			return pgmedic.Errorf(pgmedic.KindUsage, "leave --only out, and take it from dump.sql", "backup %s is a plain one: its definitions and rows are one file", o.Backup.ID)
		}
	default:
		return pgmedic.Errorf(pgmedic.KindUsage, "use schema, globals or data", "--only: unknown part %q", o.Only)
	}
	return o.Backup.Check()
}

// wants reports whether a part is fetched.
func (o *Options) wants(part Part) bool { return o.Only == PartAll || o.Only == part }

// partOf is what an object is of; empty is what is not fetched: sums, the inventory, and
// what restores without pgmedic read beside the sealed objects.
func partOf(role pgmedic.ObjectRole) Part {
	switch role {
	case pgmedic.RoleGlobals:
		return PartGlobals
	case pgmedic.RoleSchema:
		return PartSchema
	case pgmedic.RoleDump, pgmedic.RoleRest, pgmedic.RolePack:
		return PartData
	}
	return ""
}

// bytes is how much will be written, without what says how it is loaded.
func (o *Options) bytes() (n int64) {
	for _, object := range o.Backup.Objects {
		switch part := partOf(object.Role); {
		case o.Sealed:
			n += object.StoredBytes
		case part != "" && o.wants(part):
			n += object.PlainBytes
		}
	}
	return n
}

func (o *Options) refuseFull(ctx context.Context, need int64) error {
	if o.FreeBytes == nil {
		return nil
	}
	above := filepath.Dir(filepath.Clean(o.Dir))
	free, err := o.FreeBytes(ctx, above)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindFailed, "make the folder above it first", "ask for the free space of %s: %w", above, err)
	}
	if free < need {
		return pgmedic.Errorf(pgmedic.KindFailed, "free space there, or name a folder on another disk", "%s has %s free, and what is fetched takes %s", above, words.Size(free), words.Size(need))
	}
	return nil
}

// fetching is a run going on.
type fetching struct {
	Options
	dir    string
	chosen map[int]bool // the tables that are fetched; nil is the whole backup
	done   *Fetched
	meter  *progress.Meter
}

func (f *fetching) all(ctx context.Context) error {
	if f.Sealed {
		return f.sealed(ctx)
	}
	for _, object := range f.Backup.Objects {
		name := map[pgmedic.ObjectRole]string{
			pgmedic.RoleGlobals: "globals.sql", pgmedic.RoleSchema: "schema.dump", pgmedic.RoleRest: "rest.dump", pgmedic.RoleDump: "dump.sql",
		}[object.Role]
		if name == "" || f.chosen != nil || !f.wants(partOf(object.Role)) {
			continue
		}
		r, err := f.Open(ctx, object)
		if err != nil {
			return err
		}
		if err := errors.Join(f.write(name, object.Name, r), r.Close()); err != nil {
			return err
		}
	}
	if f.Backup.Method == pgmedic.MethodParallel && f.wants(PartData) {
		if err := f.rows(ctx); err != nil {
			return err
		}
	}
	return f.write("README", "README", strings.NewReader(f.readme()))
}

// write writes a file, and waits until it is on the disk. Its reader's EOF says that the
// content is right.
func (f *fetching) write(name, object string, r io.Reader) error {
	f.meter.Object(object)
	w, err := os.OpenFile(filepath.Join(f.dir, filepath.FromSlash(name)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	n, err := io.Copy(io.MultiWriter(w, f.meter), r)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f.done.Files, f.done.Bytes = f.done.Files+1, f.done.Bytes+n
	return nil
}

// rows writes a file for each COPY of a table, and load.sql, which loads them.
func (f *fetching) rows(ctx context.Context) error {
	if err := os.Mkdir(filepath.Join(f.dir, "data"), 0o700); err != nil {
		return fmt.Errorf("make the folder of rows: %w", err)
	}
	var load strings.Builder
	tables := "the tables of schema.dump"
	if f.chosen != nil {
		tables = "tables that exist already"
	}
	load.WriteString("-- Loads the rows of data/ into " + tables + ": psql -X -v ON_ERROR_STOP=1 -d DATABASE -f load.sql\n")
	files := map[int]int{}
	for _, chunk := range f.chunks() {
		r, err := f.OpenChunk(ctx, chunk)
		if err != nil {
			return err
		}
		err = f.chunk(chunk, bufio.NewReader(r), files, &load)
		if err == nil { // to its end, which says that it is what was written
			_, err = io.Copy(io.Discard, r)
		}
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return f.write("load.sql", "load.sql", strings.NewReader(load.String()))
}

func (f *fetching) chunk(chunk pgmedic.Chunk, r io.Reader, files map[int]int, load *strings.Builder) error {
	for _, part := range chunk.Parts {
		if f.chosen != nil && !f.chosen[part.Table] {
			if _, err := io.CopyN(io.Discard, r, part.PlainBytes); err != nil {
				return fmt.Errorf("pass over rows of other tables: %w", err)
			}
			continue
		}
		t := f.Backup.Tables[part.Table]
		files[part.Table]++
		ending := "copy"
		if t.Format == pgmedic.CopyBinary {
			ending = "copyb"
		}
		name := fmt.Sprintf("data/%d.%s", part.Table, ending)
		if n := files[part.Table]; n > 1 {
			name = fmt.Sprintf("data/%d-%d.%s", part.Table, n, ending)
		}
		if err := f.write(name, sqltext.QuoteQualified(t.Schema, t.Name), io.LimitReader(r, part.PlainBytes)); err != nil {
			return err
		}
		f.done.Rows += part.Rows
		f.loadCommand(load, t, name)
	}
	return nil
}

// loadCommand writes the command that loads a file. In \copy nothing is a variable or
// another command; but it ends with its line.
func (f *fetching) loadCommand(load *strings.Builder, t pgmedic.Table, name string) {
	sql := snapshot.CopyInSQL(sqltext.QuoteQualified(t.Schema, t.Name), t.Columns, t.Format, f.Backup.Database.Encoding)
	if strings.ContainsAny(sql, "\n\r\x00") {
		table := sqltext.PrintableTable(t.Schema, t.Name)
		f.done.ByHand = append(f.done.ByHand, table)
		fmt.Fprintf(load, "-- by hand, because its name has more than one line: %s from '%s'\n", table, name)
		return
	}
	const from = " FROM STDIN " // the last one: names may have it, and the options behind it do not
	at := strings.LastIndex(sql, from)
	fmt.Fprintf(load, "\\copy %s FROM '%s' %s\n", strings.TrimPrefix(sql[:at], "COPY "), name, sql[at+len(from):])
}

// besides matches what is stored beside the objects and belongs to the backup for good:
// what authenticates the manifest, and the keys that open it. So do signatures. Receipts
// and marks are of a store.
var besides = regexp.MustCompile(`^(manifest\.json\.(sha256|hmac)|keys/[A-Za-z0-9][A-Za-z0-9._-]*)$`)

// maxBesides bounds one of those, and how many there are.
const maxBesides, mostBesides = 64 << 20, 10_000

// sealed copies what is stored of the backup, and compares what the manifest has hashes
// of.
func (f *fetching) sealed(ctx context.Context) error {
	for _, object := range f.Backup.Objects {
		r, err := f.OpenStored(ctx, object)
		if err != nil {
			return err
		}
		if err := errors.Join(f.write(object.Name, object.Name, newHashed(r, object)), r.Close()); err != nil {
			return err
		}
	}
	if err := f.copyBesides(ctx); err != nil {
		return err
	}
	return f.write("README", "README", strings.NewReader(f.readme()))
}

// copyBesides copies what is stored beside the objects. The manifest is the one that the
// backup was read from, whatever has come in its place since.
func (f *fetching) copyBesides(ctx context.Context) error {
	m, err := f.Catalog.Manifest(ctx, f.Backup)
	if err != nil {
		return err
	}
	if err := f.write("manifest.json", "manifest.json", bytes.NewReader(m.Data)); err != nil {
		return err
	}
	found := 0
	prefix := catalog.Key(f.Backup, "")
	for object, err := range f.Catalog.Store().List(ctx, prefix) {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(object.Key, prefix)
		isSignature := signature.IsName(name)
		if !isSignature && !besides.MatchString(name) || isSignature && object.SizeBytes > signature.MaxBytes {
			continue
		}
		if found++; found > mostBesides || object.SizeBytes > maxBesides {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "find out who can write to the store", "the folder of backup %s holds more than a backup has", f.Backup.ID)
		}
		if err := f.copyBeside(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// copyBeside copies one of what is stored beside the objects.
func (f *fetching) copyBeside(ctx context.Context, name string) error {
	if folder := path.Dir(name); folder != "." {
		if err := os.MkdirAll(filepath.Join(f.dir, folder), 0o700); err != nil {
			return fmt.Errorf("make the folder of %s: %w", folder, err)
		}
	}
	r, err := f.Catalog.Store().Open(ctx, catalog.Key(f.Backup, name), 0, -1)
	if err != nil {
		return err
	}
	return errors.Join(f.write(name, name, r), r.Close())
}
