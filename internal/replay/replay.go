// Package replay recovers a cluster to the moment of a plan, in a private server that is
// thrown away: from a base backup and WAL, with no path and no setting of the server that
// was backed up, and without a network. A drill of a moment checks such a server, and a
// rescue takes a database or tables out of it.
package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Options say what is recovered. Required: Plan, WAL, Source, Step, Logger, Now.
type Options struct {
	// Plan is how the moment is reached, and WAL reads the archive that it was made from.
	// Where it puts tablespaces does not matter: here they all lie in the scratch.
	Plan *recovery.Plan
	WAL  *archive.Fetcher
	// Source reads the base backup: with all that it needs, if it is incremental.
	Source physical.Source
	// ServerDirs are searched first for the server's programs.
	ServerDirs []string
	// ScratchDir is where the server's folder is made; empty means the system's folder
	// for temporary files. It needs room for NeededBytes.
	ScratchDir string
	// PreloadLibraries override those of the backup where there are any.
	PreloadLibraries []string
	// Kernel is what the cage is made of; nil means what the system offers. It is for tests.
	Kernel *scratch.Kernel
	// Step does a part of the work, and measures it.
	Step     func(name string, do func() error) error
	Progress func(pgmedic.Event)
	Logger   *slog.Logger
	Now      func() time.Time
}

// NeededBytes is the room that a base backup and the WAL of a plan take.
func NeededBytes(source physical.Source, plan *recovery.Plan) int64 {
	return max(source.Backup.Physical.PlainBytes, 0) + plan.SegmentBytesToFetch()
}

// Replay is one recovery.
type Replay struct {
	Options
	// WALBytes is how much WAL was fetched, and Fetched when that and the base backup were
	// on the disk.
	WALBytes int64
	Fetched  time.Time
	// Log is what PostgreSQL wrote about the recovery, once Start has returned a server.
	Log cluster.Log
}

// ConnectDatabase is a database that every cluster has.
const ConnectDatabase = "template1"

// Start starts the server, and returns it once it has recovered and is open. Whether it
// has recovered to the moment is for the caller to ask: Log.Compare. The caller stops the
// server. An error leaves nothing behind; it is a pgmedic.KindIntegrity error if the
// backup or the WAL is to blame.
func (r *Replay) Start(ctx context.Context) (*scratch.Server, error) {
	b := r.Source.Backup
	preload := r.PreloadLibraries
	if len(preload) == 0 {
		preload = b.Physical.Preload
	}
	settings := scratch.PrivateSettings(b.Server.Major(), preload, "pgmedic_replay")
	for name, value := range cluster.Settings(r.Plan, recovery.FolderCommand(scratch.WALFolder)) {
		settings[name] = value
	}
	for name, value := range r.settings() {
		settings[name] = value
	}
	cage := scratch.CageFor(NeededBytes(r.Source, r.Plan), preload)
	cage.Kernel = r.Kernel
	server, err := scratch.Start(ctx, scratch.Options{
		Major: b.Server.Major(), SearchDirs: r.ServerDirs, Parent: r.ScratchDir, Superuser: b.Server.BootstrapRole,
		Durable: true, Cage: cage, Settings: settings, Fill: r.fill, Logger: r.Logger,
	})
	if errors.Is(err, scratch.ErrEnded) && ctx.Err() == nil {
		return nil, ended(err)
	}
	if err != nil {
		return nil, err
	}
	text, err := server.Log()
	if err != nil {
		return nil, errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
	}
	r.Log = cluster.ReadLog(text)
	return server, nil
}

// settings are those of a server that recovers, and of which nothing is then changed.
func (r *Replay) settings() map[string]string {
	all := map[string]string{
		"recovery_end_command": "", "log_line_prefix": cluster.LogPrefix, "log_min_messages": "log",
		// The limits of the source matter only for a server that answers while it recovers;
		// but it must have room for the transactions that were prepared.
		"hot_standby": "off", "max_prepared_transactions": "4096", "autovacuum": "off",
	}
	if len(r.Plan.WAL.Tablespaces) > 0 { // see recovery.Plan.InPlace
		all["allow_in_place_tablespaces"] = "on"
	}
	return all
}

// fill puts base backup and WAL into the scratch. The WAL comes first: it is what is
// damaged or missing more often, and is then known at once.
func (r *Replay) fill(ctx context.Context, f scratch.Filling) error {
	err := r.Step("fetch WAL", func() error { return r.fetchWAL(ctx, f.WALDir) })
	if err != nil {
		return err
	}
	plan := *r.Plan
	plan.Tablespaces = nil
	for _, t := range r.Source.Backup.Physical.Tablespaces {
		to := filepath.Join(f.TablespacesDir, strconv.FormatUint(uint64(t.OID), 10))
		plan.Tablespaces = append(plan.Tablespaces, recovery.Tablespace{OID: t.OID, From: path.Clean(t.Location), To: to})
	}
	o := cluster.Options{
		Source: r.Source, Plan: &plan, Dir: f.DataDir, Progress: r.Progress, Logger: r.Logger,
	}
	if f.OtherUser {
		o.Owner = &owner.ID{UID: f.UID, GID: f.GID}
	}
	err = r.Step("fetch base backup", func() error {
		_, err := cluster.Restore(ctx, o)
		return err
	})
	if err != nil {
		// Nothing is left that the hint of a restore could be about.
		return pgmedic.Errorf(pgmedic.KindOf(err), "see what `pgmedic verify "+r.Source.Backup.ID+"` says", "%w", err)
	}
	r.Fetched = r.Now()
	return nil
}

// fetchWAL fetches all that the plan needs. The server itself has neither keys nor network.
func (r *Replay) fetchWAL(ctx context.Context, dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the folder of the WAL: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	plan := *r.Plan
	plan.InPlace()
	meter := progress.NewMeter(progress.MeterOptions{Step: "fetch WAL", TotalBytes: plan.SegmentBytesToFetch(), Report: r.Progress, Now: r.Now})
	r.WALBytes, err = recovery.NewFetcher(&plan, r.WAL, r.Logger).Folder(ctx, root, meter.Add)
	return err
}

// ended says what it means that the server ended by itself. With all hashes right, it can
// still be what was backed up, and it can be this machine.
func ended(err error) error {
	said := cluster.ReadLog(scratch.LogOf(err))
	const hint = "see docs/drills.md for what keeps a recovery from ending"
	if len(said.FatalCode) == 5 && said.Program == "" && !slices.Contains(machineClasses(), said.FatalCode[:2]) {
		return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "PostgreSQL does not recover from this base backup and its WAL: %s", said.Why())
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "make it possible on this host; this says nothing about the backup", "the recovery stopped: %s", said.Why())
}

// machineClasses are the classes of SQLSTATE that are about the machine, the programs and
// the configuration: resources, limits, an operator, the system, a configuration file, and
// values of settings.
func machineClasses() []string { return []string{"22", "42", "53", "54", "55", "57", "58", "F0"} }

// RollBackPrepared rolls back the transactions of the session's database that were
// prepared, and not decided at the moment, and returns how many those were. Their locks
// would keep whatever reads the copy waiting for ever.
func RollBackPrepared(ctx context.Context, conn *pgx.Conn) (int, error) {
	rows, err := conn.Query(ctx, "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY prepared")
	if err != nil {
		return 0, postgres.Wrap(err, "list the prepared transactions")
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, postgres.Wrap(err, "list the prepared transactions")
	}
	for _, gid := range all {
		if _, err := conn.Exec(ctx, "ROLLBACK PREPARED "+sqltext.QuoteLiteral(gid)); err != nil {
			return 0, postgres.Wrap(err, "roll back a prepared transaction of the copy")
		}
	}
	return len(all), nil
}
