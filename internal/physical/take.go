package physical

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/sqlfiles"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say what is backed up and where to. Required: Catalog, Seal.Compression, Logger,
// Now.
type Options struct {
	// Target is the server, or a standby of it. Its role needs the attribute REPLICATION. It
	// is connected to for replication, and, if the server lets it, for SQL: without that the
	// backup lacks settings.json and the names of the databases.
	Target postgres.Target
	// Maintenance is the database in which the run lock is taken; empty means postgres.
	Maintenance string
	// ServerName is what the backup is filed under; empty means the system identifier.
	ServerName string
	Catalog    *catalog.Catalog
	// Seal says how the backup and its WAL are sealed. With encryption each has a key of its
	// own, which Wraps open.
	Seal  seal.Options
	Wraps []seal.Wrap
	// Signer signs the manifest; nil leaves it unsigned.
	Signer *signature.Key
	Labels map[string]string
	// Workers is how many chunks are sealed at once. Zero means one for each processor, and
	// no more than MaxWorkers.
	Workers int
	// Spread lets the server take the checkpoint that the backup begins with at its own pace,
	// which can be as long as checkpoint_timeout. Otherwise it is taken at once.
	Spread bool
	// MaxRate bounds the bytes a second that the server sends; zero means no bound. Files that are read
	// by SQL have none.
	MaxRate int64
	// BySQL has the files read by SQL functions over Workers sessions, and not from the server's
	// stream of a base backup. The role needs them granted; the server is a primary.
	BySQL bool
	// Incremental asks for an incremental backup; nil for a full one.
	Incremental *Incremental
	// NewCluster permits that the server is another cluster than the one whose physical
	// backups are under this name.
	NewCluster bool
	// Patience is how long WAL is waited for that another stream stores, before it is streamed
	// here as well. Zero means as long as an observation of that stream counts, which is two
	// minutes or more.
	Patience time.Duration
	// MaxDuration ends the whole run; zero means no limit.
	MaxDuration time.Duration
	// Host and Version go into the manifest.
	Host, Version string
	// Progress receives events from one goroutine at a time; nil disables them.
	Progress func(pgmedic.Event)
	Logger   *slog.Logger
	Now      func() time.Time
}

// MaxWorkers is how many workers there are unless more are asked for: each takes some 40 MiB.
const MaxWorkers = 4

// errMaxDuration is the cause of a run that took too long.
var errMaxDuration = errors.New("the backup took longer than its maximum duration")

// Take takes a base backup and returns its manifest. It is committed last, when the WAL that
// makes it consistent is stored, too. When Take returns an error there is no backup: nothing
// is listed, and at most some orphaned objects are left in the store.
//
// Pages that are not right do not end it: they are in the manifest, and Backup.Clean is false.
func Take(ctx context.Context, o Options) (*pgmedic.Backup, error) {
	if o.Catalog == nil || o.Logger == nil || o.Now == nil {
		return nil, errors.New("physical: Catalog, Logger and Now are required")
	}
	if e := o.Seal.Encryption; e != "" && e != seal.EncryptionNone && e != seal.EncryptionAge {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set backup.encryption to age, or backup.method to plain", "%s is for plain backups only", e)
	}
	if o.BySQL && o.MaxRate > 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out; fewer --jobs read less at a time", "--max-rate with --reader sql: files that are read by SQL have no bound")
	}
	if o.Maintenance == "" {
		o.Maintenance = postgres.DefaultMaintenance
	}
	if o.Workers <= 0 {
		o.Workers = min(postgres.Jobs(0), MaxWorkers)
	}
	if o.MaxDuration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.MaxDuration, errMaxDuration)
		defer cancel()
	}
	b, err := take(ctx, o)
	if err != nil && errors.Is(context.Cause(ctx), errMaxDuration) {
		return nil, pgmedic.Errorf(pgmedic.KindFailed, "raise backup.max_duration, or run it at a quieter hour", "%w of %s", errMaxDuration, words.Duration(o.MaxDuration))
	}
	return b, err
}

// run is a backup being taken.
type run struct {
	Options
	objects
	conn   *replication.Conn
	system replication.System
	layout replication.Layout
	// sql is nil where the server does not let the role in.
	sql *sqlSession
	// cluster reads the files by SQL; nil where the server streams them.
	cluster *sqlfiles.Cluster
	// parent is what an incremental backup is incremental to; nil for a full one. unchanged are the
	// files that it has and that may not have changed since, if they are read by SQL.
	parent    *pgmedic.Backup
	unchanged unchanged
	// needed is the parent and what that needs, and release lets them be deleted.
	needed  []*pgmedic.Backup
	release func()
}

// knownVersion refuses a server of a later version, whose files and WAL may have other
// forms, before anything is stored.
func knownVersion(l replication.Layout) error {
	newer := postgres.NewerThanKnown(l.VersionNum)
	if newer == "" {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic; `pgmedic backup --method parallel` backs each database up with pg_dump", "no base backup is taken: %s", newer)
}

func take(ctx context.Context, o Options) (*pgmedic.Backup, error) {
	conn, err := replication.Connect(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, conn: conn, release: func() {}}
	defer func() { r.conn.Close(ctx) }()
	defer func() { r.release() }()
	if err := r.identify(ctx); err != nil {
		return nil, err
	}
	if r.sql, err = openSQL(ctx, o); err != nil {
		return nil, err
	}
	defer r.sql.close(ctx)
	b := r.describe()
	r.objects = objects{store: o.Catalog.Store(), seal: o.Seal, manifest: b, now: o.Now, progress: o.Progress}
	if err := r.checkCluster(ctx); err != nil {
		return nil, err
	}
	if err := r.openFiles(ctx); err != nil {
		return nil, err
	}
	defer r.closeFiles(ctx)
	if r.sql != nil {
		lock, err := databases.AcquireRunLock(ctx, o.Target, o.Maintenance, lockName)
		if err != nil {
			return nil, err
		}
		defer lock.Release(ctx)
	}
	failpoint.Hit(ctx, "physical-locked")
	if err := r.chooseParent(ctx); err != nil {
		return nil, err
	}
	if err := r.storeKeys(ctx); err != nil {
		return nil, err
	}
	// First, because the files can take hours, after which the session may be gone.
	if err := r.storeSettings(ctx); err != nil {
		return nil, err
	}
	if err := r.takeFiles(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(b.Objects, func(x, y pgmedic.Object) int { return strings.Compare(x.Name, y.Name) })
	failpoint.Hit(ctx, "physical-stored")
	if err := r.storeRecovery(ctx); err != nil {
		return nil, err
	}
	failpoint.Hit(ctx, "physical-before-commit")
	if err := r.checkNeeded(ctx); err != nil {
		return nil, err
	}
	if err := r.commit(ctx, b); err != nil {
		return nil, err
	}
	failpoint.Hit(ctx, "physical-committed")
	return b, nil
}

// identify reads which cluster it is and how it lies on its disks.
func (r *run) identify(ctx context.Context) (err error) {
	if r.system, err = r.conn.Identify(ctx); err != nil {
		return err
	}
	if r.layout, err = r.conn.Layout(ctx); err != nil {
		return err
	}
	return knownVersion(r.layout)
}

// commit stores the manifest, authenticated and signed as far as there are keys for that.
func (r *run) commit(ctx context.Context, b *pgmedic.Backup) error {
	b.FinishedAt = r.Now().UTC()
	var mac func([]byte) (string, error)
	if r.seal.Key != nil {
		mac = r.seal.Key.MAC
	}
	var signers []*signature.Key
	if r.Signer != nil {
		signers = append(signers, r.Signer)
	}
	if err := r.Catalog.Commit(ctx, b, mac, signers...); err != nil {
		return fmt.Errorf("commit backup %s: %w", b.ID, err)
	}
	return nil
}

// lockName is what the run lock of physical backups is taken for. No two of one server are
// taken at once: each costs it a checkpoint and a read of all files.
const lockName = "@cluster"

// describe begins a manifest with what is known before the backup.
func (r *run) describe() *pgmedic.Backup {
	now := r.Now()
	id := strconv.FormatUint(r.system.Identifier, 10)
	b := &pgmedic.Backup{
		Format: pgmedic.PhysicalFormat, ID: catalog.NewID(now), Method: pgmedic.MethodPhysical, Purpose: pgmedic.PurposeRegular,
		StartedAt: now.UTC(), Host: r.Host, Programs: pgmedic.Programs{Pgmedic: r.Version}, Labels: r.Labels,
		Server: pgmedic.Server{Name: r.ServerName, SystemIdentifier: id, Version: r.system.Version, VersionNum: r.layout.VersionNum, Standby: r.system.Standby},
		Seal:   pgmedic.Seal{Compression: string(r.Seal.Compression), Encryption: string(r.Seal.Encryption)},
		Tables: []pgmedic.Table{},
		Physical: &pgmedic.Physical{
			Kind: pgmedic.PhysicalFull, FromStandby: r.system.Standby, BlockBytes: r.layout.BlockBytes, SegmentBytes: r.layout.SegmentBytes,
			WALSegmentBytes: int64(r.system.SegmentSize), Checksums: r.layout.Checksums,
		},
	}
	if b.Server.Name == "" {
		b.Server.Name = id
	}
	if b.Seal.Encryption == "" {
		b.Seal.Encryption = string(seal.EncryptionNone)
	}
	if r.sql != nil {
		b.Server.BootstrapRole, b.Physical.Databases, b.Physical.Preload = r.sql.bootstrap, r.sql.databases, r.sql.preload
	}
	return b
}

// checkCluster refuses a server that is another cluster than the last physical backup of
// this name: two servers under one name, or one that was replaced.
func (r *run) checkCluster(ctx context.Context) error {
	if r.NewCluster {
		return nil
	}
	listing, err := r.Catalog.List(ctx, catalog.Filter{Server: r.manifest.Server.Name, Cluster: true})
	if err != nil {
		return err
	}
	if len(listing.Entries) == 0 {
		return nil
	}
	last := listing.Entries[0].Backup
	if last.Server.SystemIdentifier == r.manifest.Server.SystemIdentifier {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindConflict, "if the server was replaced, say so once with --new-cluster; if it is another one, give it a name of its own (--server)",
		"the server has system identifier %s, and backup %s under the name %s is of cluster %s", r.manifest.Server.SystemIdentifier, last.ID, last.Server.Name, last.Server.SystemIdentifier)
}

// takeFiles receives the files, and the WAL that belongs to them.
func (r *run) takeFiles(ctx context.Context) error {
	w, err := r.beginWAL(ctx)
	if err != nil {
		return err
	}
	defer w.close(ctx)
	var files *files
	var end replication.BaseBackupEnd
	spaces, err := r.spaces(ctx)
	if err != nil {
		return err
	}
	err = r.step("files", func() error {
		filesCtx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		// A backup without its WAL can't be used: it ends as soon as that is lost.
		w.failed = cancel
		files, filesCtx = r.newFiles(filesCtx)
		end, err = r.baseBackup(filesCtx, files, replication.BaseBackupOptions{
			Label: "pgmedic " + r.manifest.ID, Fast: !r.Spread, MaxRate: r.MaxRate,
			Started: func(s replication.BaseBackupStart) error {
				failpoint.Hit(ctx, "physical-started")
				if err := checkTablespaces(s.Tablespaces); err != nil {
					return err
				}
				r.started(s)
				files.begin(s.SizeBytes)
				return w.start(ctx, s)
			},
			Archive:  files.archive,
			Manifest: files.serverManifest,
			Warning: func(message string) {
				r.Logger.Warn("the server warns about the base backup", "message", pgmedic.PrintableBytes(message))
			},
		})
		return files.finish(err)
	})
	if err != nil {
		return err
	}
	failpoint.Hit(ctx, "physical-files-stored")
	if err := r.checkMoved(ctx, spaces); err != nil {
		return err
	}
	if err := r.ended(files, end); err != nil {
		return err
	}
	return r.step("wal", func() error { return w.finish(ctx, end) })
}

// started enters into the manifest where the backup begins.
func (r *run) started(s replication.BaseBackupStart) {
	p := r.manifest.Physical
	p.Timeline, p.StartLSN = int64(s.Timeline), s.LSN.String()
	for _, t := range s.Tablespaces {
		p.Tablespaces = append(p.Tablespaces, pgmedic.Tablespace{OID: t.OID, Location: t.Location})
	}
}

// ended holds what the server said of the backup against what is in its files, and enters
// the rest into the manifest.
func (r *run) ended(f *files, end replication.BaseBackupEnd) error {
	p := r.manifest.Physical
	control, err := pgdata.ParseControl(f.kept[pgdata.ControlPath])
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "see whether the server's disk is sound, and run it again", "the server sent a damaged pg_control: %w", err)
	}
	label, err := pgdata.ParseLabel(f.kept[pgdata.LabelPath])
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "run it again", "the server sent a damaged backup_label: %w", err)
	}
	if control.SystemIdentifier != r.system.Identifier || control.BlockBytes != p.BlockBytes || control.SegmentBytes != p.SegmentBytes ||
		control.WALSegment != r.system.SegmentSize || control.Checksums != p.Checksums ||
		label.Start.String() != p.StartLSN || int64(label.Timeline) != p.Timeline || label.FromStandby != p.FromStandby {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "if checksums were being switched, or a standby was promoted, run it again afterwards",
			"what the server says of itself is not what is in the files that it sent (pg_control, backup_label)")
	}
	p.CheckpointLSN, p.StopLSN, p.StopTimeline = label.Checkpoint.String(), end.LSN.String(), int64(end.Timeline)
	p.ControlVersion, p.CatalogVersion = int64(control.ControlVersion), int64(control.CatalogVersion)
	p.Files, p.PlainBytes, p.ServerManifestSHA256 = f.listed, f.bytes, f.manifestSum
	if p.SQL != nil {
		p.SQL.ListSHA256 = f.listSum
	}
	p.PagesChecked, p.BadPages, p.PageErrors = f.pages.checked, f.pages.bad, f.pages.first
	for i, t := range p.Tablespaces {
		p.Tablespaces[i].SizeBytes = f.tablespaces[t.OID]
	}
	for i, d := range p.Databases {
		p.Databases[i].SizeBytes = f.databases[d.OID]
	}
	r.manifest.SnapshotAt, r.manifest.SnapshotLSN, r.manifest.SnapshotTimeline = r.Now().UTC(), p.StopLSN, p.StopTimeline
	return nil
}
