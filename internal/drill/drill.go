package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// Options say what is drilled, and where. Required: Catalog, Backup, Now.
type Options struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	// Key opens the backup where it is encrypted.
	Key *seal.Key
	// Tools finds psql; ServerDirs are searched first for the server's
	// programs.
	Tools      pgtool.Finder
	ServerDirs []string
	// ScratchDir is where the throwaway server's folder is made; empty means
	// the system's folder for temporary files. It needs room for the whole
	// database.
	ScratchDir string
	// Jobs is how many connections load a parallel backup, see restore.Options.
	Jobs int
	// Host and Version go into the receipt; MemoryBytes is the machine's
	// memory, zero where it can't be known.
	Host, Version string
	MemoryBytes   int64
	ShowData      bool
	Progress      func(pgmedic.Event)
	Logger        *slog.Logger
	Now           func() time.Time
}

// database is the name of the copy in the scratch server.
const database = "pgmedic_drill"

// Run restores a backup into a private server of the same major version, holds
// the copy against what the backup recorded, measures how long it took to
// recover, stores a receipt, and drops the server whatever happens.
//
// A backup that does not restore, or restores to something else, is a failed
// receipt and a nil error. An error means that the drill could not be held or
// its receipt not be stored, and says nothing about the backup.
func Run(ctx context.Context, o Options) (_ *pgmedic.Receipt, err error) {
	o.Logger = discard(o.Logger)
	b := o.Backup
	receipt := &pgmedic.Receipt{
		Format: pgmedic.ReceiptFormat, Kind: pgmedic.ReceiptDrill, BackupID: b.ID,
		Host: o.Host, Programs: pgmedic.Programs{Pgmedic: o.Version},
	}
	began := o.Now()
	server, err := scratch.Start(ctx, scratch.Options{
		Major: b.Server.Major(), SearchDirs: o.ServerDirs, Parent: o.ScratchDir,
		Superuser: b.Server.BootstrapRole, Logger: o.Logger,
		// With fsync off the measured time would not be a time to recover.
		Durable: true,
	})
	if err != nil {
		return nil, fmt.Errorf("start a scratch server for the drill: %w", err)
	}
	defer func() {
		if stopErr := server.Stop(context.WithoutCancel(ctx)); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the scratch server: %w", stopErr))
		}
	}()
	failpoint.Hit(ctx, "drill-started")
	receipt.Steps = []pgmedic.Step{{Name: "start server", Seconds: seconds(o.Now().Sub(began))}}
	if err := o.rehearse(ctx, server, receipt); err != nil {
		return nil, fmt.Errorf("drill backup %s: %w", b.ID, err)
	}
	failpoint.Hit(ctx, "drill-compared")
	return store(ctx, o.Catalog, b, receipt, pgmedic.ProofProven, o.Now())
}

// rehearse restores and compares, and enters what it found into the receipt.
func (o Options) rehearse(ctx context.Context, server *scratch.Server, receipt *pgmedic.Receipt) error {
	target, err := postgres.ParseTarget(server.DSN("postgres"))
	if err != nil {
		return err
	}
	if receipt.Scratch, err = o.describe(ctx, server, target); err != nil {
		return err
	}
	loaded, err := restore.Load(ctx, restore.Options{
		Catalog: o.Catalog, Backup: o.Backup, Key: o.Key, Target: target, Into: database, Tools: o.Tools, Jobs: o.Jobs,
		CreateRoles: true, TablespaceDir: server.TablespaceDir,
		ShowData: o.ShowData, Progress: o.Progress, Logger: o.Logger, Now: o.Now,
	})
	if err != nil {
		return o.judge(ctx, receipt, err)
	}
	receipt.Steps = append(receipt.Steps, loaded.Steps...)
	receipt.RecoverySeconds = loaded.Seconds
	receipt.Checks = append(receipt.Checks, pgmedic.Check{
		Name: "restores", Outcome: pgmedic.OutcomeOK, Detail: "loaded without an error, every byte with its recorded hash",
	})
	for _, name := range loaded.RefusedSettings {
		receipt.Checks = append(receipt.Checks, pgmedic.Check{
			Name: "database settings", Outcome: pgmedic.OutcomeWarn, Detail: "the scratch server does not take " + name,
		})
	}
	began := o.Now()
	o.report(pgmedic.Event{Step: "compare"})
	checks, err := restore.Compare(ctx, restore.Source{Catalog: o.Catalog, Backup: o.Backup, Key: o.Key}, target.WithDatabase(database))
	if err != nil {
		return o.judge(ctx, receipt, err)
	}
	o.report(pgmedic.Event{Step: "compare", Finished: true})
	receipt.Checks = append(receipt.Checks, checks...)
	receipt.Steps = append(receipt.Steps, pgmedic.Step{Name: "compare", Seconds: seconds(o.Now().Sub(began))})
	return nil
}

func (o Options) report(e pgmedic.Event) {
	if o.Progress != nil {
		o.Progress(e)
	}
}

// judge tells a backup that is bad from a drill that could not be held. Damage,
// and SQL that the server refuses, are the backup's; everything else (disk
// full, no such program, store gone, interrupt) is not.
func (o Options) judge(ctx context.Context, receipt *pgmedic.Receipt, err error) error {
	if ctx.Err() != nil {
		return err
	}
	bad := pgmedic.KindOf(err) == pgmedic.KindIntegrity || refusedSQL(err)
	if !bad {
		return err
	}
	receipt.Checks = append(receipt.Checks, pgmedic.Check{
		Name: "restores", Outcome: pgmedic.OutcomeFailed, Detail: err.Error(), Hint: pgmedic.HintOf(err),
	})
	return nil
}

// refusedSQL reports whether the server refused a statement of the dump for
// what it says, and not for want of disk, memory or life.
func refusedSQL(err error) bool {
	var rows *restore.RefusedError
	if errors.As(err, &rows) {
		return true
	}
	var tool *pgtool.Error
	if !errors.As(err, &tool) || tool.SQLState == "" {
		return false
	}
	switch tool.SQLState[:2] {
	case "08", "53", "54", "55", "57", "58":
		return false
	}
	return true
}

// describe records what the measured time depends on.
func (o Options) describe(ctx context.Context, server *scratch.Server, t postgres.Target) (*pgmedic.Scratch, error) {
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	settings, err := postgres.ReadSettings(ctx, conn, []string{
		"fsync", "full_page_writes", "synchronous_commit", "shared_buffers", "maintenance_work_mem",
		"max_wal_size", "max_parallel_maintenance_workers", "wal_level", "data_checksums",
	})
	if err != nil {
		return nil, err
	}
	return &pgmedic.Scratch{
		Kind: "private-server", Version: server.Version(), Settings: settings,
		CPUs: runtime.NumCPU(), MemoryBytes: o.MemoryBytes, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}, nil
}
