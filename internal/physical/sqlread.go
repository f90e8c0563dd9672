package physical

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/sqlfiles"
)

// openFiles opens the sessions that read the files by SQL, if they do.
func (r *run) openFiles(ctx context.Context) (err error) {
	if !r.BySQL {
		return nil
	}
	target := r.Target
	if target.Database() == "" {
		target = target.WithDatabase(r.Maintenance)
	}
	if r.cluster, err = sqlfiles.Open(ctx, sqlfiles.Options{Target: target, Sessions: r.Workers}); err != nil {
		return err
	}
	r.manifest.Format = pgmedic.SQLFormat
	r.manifest.Physical.SQL = &pgmedic.SQLRead{ServerStartedAt: r.cluster.StartedAt().UTC()}
	return nil
}

func (r *run) closeFiles(ctx context.Context) {
	if r.cluster != nil {
		r.cluster.Close(ctx)
	}
}

// SQLChild is what it depends on which backup can be a parent where files are read by SQL.
type SQLChild struct {
	// ServerStartedAt is when the server's first process began: nothing that happens to files while
	// no server runs, such as another disk, a crash of the machine, or a restore, is between two
	// backups of one.
	ServerStartedAt time.Time
}

func (r *run) sqlChild() *SQLChild {
	if r.cluster == nil {
		return nil
	}
	return &SQLChild{r.cluster.StartedAt()}
}

// refuses returns why a backup can't be the parent, or nothing. A nil SQLChild takes all.
func (s *SQLChild) refuses(parent *pgmedic.Backup) string {
	switch {
	case s == nil:
		return ""
	case !parent.Physical.SQL.ServerStartedAt.Equal(s.ServerStartedAt):
		return "the server was restarted since the backup before, " + parent.ID
	case parent.Physical.SQL.ClockAt == nil:
		return "the times of files were not those of the server's clock in the backup before, " + parent.ID
	}
	return ""
}

// unchanged are the CRCs of files that a child can leave out, by what must be the same of them.
type unchanged map[[16]byte]uint32

// sameness stands for a path, a size and times, of which there can be millions.
func sameness(path string, size, modifiedAt, changedAt int64) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %s", size, modifiedAt, changedAt, path))
	return [16]byte(sum[:16])
}

// readParent reads which files the parent has. Where that can't be, the backup is a full one.
func (r *run) readParent(ctx context.Context) error {
	if r.cluster == nil {
		return nil
	}
	list, err := r.Incremental.Manifest(ctx, r.parent)
	if err == nil {
		r.unchanged, err = readUnchanged(list, r.parent)
		err = errors.Join(err, list.Close())
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		r.inFull("the list of files of backup " + r.parent.ID + " is not usable: " + err.Error())
	}
	return nil
}

// readUnchanged reads a list of files.
func readUnchanged(list io.Reader, parent *pgmedic.Backup) (unchanged, error) {
	hash, clockAt := sha256.New(), parent.Physical.SQL.ClockAt.Unix()
	files, in := unchanged{}, NewReader(io.TeeReader(list, hash), parent)
	for {
		e, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			if hex.EncodeToString(hash.Sum(nil)) != parent.Physical.SQL.ListSHA256 {
				return nil, Damaged("it is not that of backup %s", parent.ID)
			}
			return files, nil
		case err != nil:
			return nil, err
		case e.File == nil || e.File.Kind != KindRelation && e.File.Kind != KindKept || e.File.SizeBytes == 0:
			continue
		}
		if f := e.File; sqlfiles.Unchanged(f.ModifiedAt, f.ChangedAt, clockAt) && f.ChangedAt != 0 {
			crc, err := strconv.ParseUint(f.CRC32C, 16, 32)
			if err != nil {
				return nil, err
			}
			files[sameness(f.Path, f.SizeBytes, f.ModifiedAt, f.ChangedAt)] = uint32(crc)
		}
	}
}

// isUnchanged reports whether the parent has a file as it is now.
func (r *run) isUnchanged(e pgdata.Entry) bool {
	_, there := r.unchanged[sameness(e.Path, e.SizeBytes, e.ModifiedAt.Unix(), changedAt(e))]
	return there
}

// baseBackupBySQL is a base backup whose files are read by SQL. It calls what a streamed one
// calls, but Archive and Manifest.
func (r *run) baseBackupBySQL(ctx context.Context, f *files, o replication.BaseBackupOptions) (end replication.BaseBackupEnd, err error) {
	start, err := r.cluster.Begin(ctx, o.Label, o.Fast)
	if err != nil {
		return end, err
	}
	if !start.ClockAt.IsZero() {
		r.manifest.Physical.SQL.ClockAt = &start.ClockAt
	} else if r.Incremental != nil {
		r.Logger.Warn("the times of files are not those of the server's clock: no backup can be incremental to this one")
	}
	if r.parent != nil && !start.ClockAt.After(*r.parent.Physical.SQL.ClockAt) {
		r.inFull("the server's clock was set back since the backup before, " + r.parent.ID + ", or is not that of its files")
	}
	begin := replication.BaseBackupStart{Timeline: r.system.Timeline, LSN: start.LSN, SizeBytes: start.SizeBytes}
	for _, t := range start.Tablespaces {
		begin.Tablespaces = append(begin.Tablespaces, replication.BaseBackupTablespace{OID: t.OID, Location: t.Location})
	}
	if err := o.Started(begin); err != nil {
		return end, err
	}
	if err := r.cluster.Files(ctx, sqlfiles.Visit{Keep: r.isUnchanged, File: f.read, Kept: f.keep}); err != nil {
		return end, err
	}
	last, err := r.cluster.End(ctx)
	if err != nil {
		return end, err
	}
	for _, part := range []struct {
		path string
		text []byte
	}{{pgdata.LabelPath, last.Label}, {pgdata.MapPath, last.Map}, {pgdata.ControlPath, last.Control}} {
		if len(part.text) == 0 {
			continue
		}
		e := pgdata.Entry{Path: part.path, SizeBytes: int64(len(part.text)), Mode: 0o600, ModifiedAt: r.Now()}
		if err := f.file(e, bytes.NewReader(part.text)); err != nil {
			return end, err
		}
	}
	return replication.BaseBackupEnd{Timeline: begin.Timeline, LSN: last.LSN}, nil
}

// read receives a file that was read by SQL.
func (f *files) read(e pgdata.Entry, content io.Reader) error {
	if oid := pgdata.TablespaceOf(e.Path); oid != 0 {
		f.tablespaces[oid] += e.SizeBytes
	}
	return f.file(e, content)
}

// keep lists a file that the parent has.
func (f *files) keep(e pgdata.Entry) error {
	crc := f.r.unchanged[sameness(e.Path, e.SizeBytes, e.ModifiedAt.Unix(), changedAt(e))]
	f.meter.Add(e.SizeBytes)
	return f.add(File{
		Path: e.Path, Kind: KindKept, SizeBytes: e.SizeBytes, Mode: Mode(e.Mode), ModifiedAt: e.ModifiedAt.Unix(), ChangedAt: changedAt(e),
		CRC32C: fmt.Sprintf("%08x", crc),
	})
}
