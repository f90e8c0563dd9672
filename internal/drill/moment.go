package drill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/replay"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// MomentOptions say to which moment a cluster is recovered. Options.Backup is the plan's
// base backup, Options.Kind is always a private server, and Options.PreloadLibraries
// override those of the backup where there are any.
type MomentOptions struct {
	Options
	// Plan is how the moment is reached, and WAL reads the archive that it was made from.
	// Where it puts tablespaces does not matter: here they all lie in the scratch.
	Plan *recovery.Plan
	WAL  *archive.Fetcher
	// Source reads the base backup: with all that it needs, if it is incremental.
	Source physical.Source
	// Database is the one of which assertions are asked; empty means that there is none.
	Database string
	// Drawn and Seed go into the receipt, and RestorePoint, which is the name of the restore
	// point that the plan is for: empty if it is for another moment.
	Drawn, Seed, RestorePoint string
	// RPO is PITR.RPOSeconds; nil where it is not known.
	RPO *time.Duration
}

// moment is a drill of a moment going on.
type moment struct {
	rehearsal
	asked  MomentOptions
	record *pgmedic.PITR
	server *scratch.Server
	// fetched is when base backup and WAL were on the disk.
	fetched time.Time
}

// RunMoment recovers a cluster to a moment, in a private server: the base backup of a plan
// and its WAL. It holds how far the recovery got against the plan, reads every page on the
// disk, lets amcheck read every database, stores a receipt, and removes the scratch
// whatever happens. No path of the source's server is used.
//
// A cluster that can't be recovered, or is recovered to something else, is a failed receipt
// and a nil error, as with Run.
func RunMoment(ctx context.Context, o MomentOptions) (_ *pgmedic.Receipt, err error) {
	o.Logger = discard(o.Logger)
	b := o.Backup
	if err := errors.Join(b.Check(), o.Plan.Check()); err != nil {
		return nil, fmt.Errorf("drill backup %s: %w", b.ID, err)
	}
	receipt := &pgmedic.Receipt{
		Format: pgmedic.ReceiptFormat, Kind: pgmedic.ReceiptDrill, BackupID: b.ID, PITR: o.pitr(),
		Host: o.Host, Programs: pgmedic.Programs{Pgmedic: o.Version}, Counted: &pgmedic.Counted{},
	}
	m := &moment{rehearsal: rehearsal{Options: o.Options, receipt: receipt}, asked: o, record: receipt.PITR}
	defer func() {
		if m.server == nil {
			return
		}
		if stopErr := m.server.Stop(context.WithoutCancel(ctx)); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the scratch server: %w", stopErr))
		}
	}()
	if err := m.run(ctx); err != nil {
		return nil, fmt.Errorf("drill backup %s: %w", b.ID, err)
	}
	failpoint.Hit(ctx, "moment-compared")
	return record{Catalog: o.Catalog, Backup: b, Key: o.Key, Receipt: receipt, Reached: pgmedic.ProofProven, Now: o.Now()}.store(ctx)
}

// pitr is what the plan says for the receipt.
func (o MomentOptions) pitr() *pgmedic.PITR {
	w := o.Plan.WAL
	p := &pgmedic.PITR{
		Chain:  o.Source.Members(),
		Target: o.Plan.Target, Drawn: o.Drawn, Seed: o.Seed, RestorePoint: o.RestorePoint, Timeline: int64(w.Timeline),
		EndLSN: max(w.End, w.Base.Stop).String(), Commits: int64(w.Commits), BaseBytes: o.Source.Backup.Physical.PlainBytes,
	}
	if o.RPO != nil {
		p.RPOSeconds = new(progress.Seconds(*o.RPO))
	}
	if w.Last != nil {
		p.LastCommitLSN = w.Last.LSN.String()
		if at := w.Last.Time.UTC(); !w.Last.Time.IsZero() {
			p.LastCommitAt = &at
		}
	}
	return p
}

// run recovers and checks, and enters what it found into the receipt.
func (m *moment) run(ctx context.Context) error {
	err := m.recover(ctx)
	if err == nil {
		failpoint.Hit(ctx, "moment-started")
		err = m.checkMoment(ctx)
		if overrun := m.server.Overrun(); overrun != nil {
			err = overrun
		}
	}
	return m.judge(ctx, err)
}

// recover starts the server, which recovers.
func (m *moment) recover(ctx context.Context) error {
	began := m.Now()
	r := &replay.Replay{Options: replay.Options{
		Plan: m.asked.Plan, WAL: m.asked.WAL, Source: m.asked.Source, ServerDirs: m.ServerDirs, ScratchDir: m.ScratchDir,
		PreloadLibraries: m.PreloadLibraries, Kernel: m.Kernel, Step: m.step, Progress: m.Progress, Logger: m.Logger, Now: m.Now,
	}}
	server, err := r.Start(ctx)
	m.record.WALBytes, m.fetched = r.WALBytes, r.Fetched
	if err != nil {
		return err
	}
	m.server = server
	said := r.Log
	m.replayed(said)
	m.took(began, said)
	if err := m.look(ctx); err != nil {
		return err
	}
	if err := said.Compare(m.asked.Plan); err != nil {
		return err
	}
	m.add("restores", pgmedic.OutcomeOK, "base backup and WAL have their recorded hashes, and PostgreSQL recovered from them")
	m.add("moment", pgmedic.OutcomeOK, m.reached())
	return nil
}

// replayed enters how far the recovery got. Where it is not known what the WAL up to its end
// holds, the plan says only how much of it is stored: then no more is claimed than where the
// last record begins that was replayed.
func (m *moment) replayed(said cluster.Log) {
	if said.Redone != 0 {
		m.record.ReachedLSN = said.Redone.String()
	}
	if w := m.asked.Plan.WAL; w.Stop == wal.StopAtEnd && len(w.Unread) > 0 {
		m.record.EndLSN = max(said.Redone, w.Base.Stop).String()
	}
}

// took enters the parts of the time to recover.
func (m *moment) took(began time.Time, said cluster.Log) {
	p := m.record
	p.FetchSeconds = progress.Seconds(m.fetched.Sub(began))
	// By the server's clock, which is this machine's.
	p.ReplaySeconds = max(0, progress.Seconds(said.RedoneAt.Sub(m.fetched)))
	p.OpenSeconds = max(0, thousandths(progress.Seconds(m.Now().Sub(m.fetched))-p.ReplaySeconds))
	m.receipt.Steps = append(m.receipt.Steps, pgmedic.Step{Name: "replay", Seconds: p.ReplaySeconds}, pgmedic.Step{Name: "open", Seconds: p.OpenSeconds})
	m.receipt.RecoverySeconds = thousandths(p.FetchSeconds + p.ReplaySeconds + p.OpenSeconds)
}

// thousandths rounds a sum of seconds as its parts are.
func thousandths(seconds float64) float64 { return math.Round(seconds*1000) / 1000 }

// look reads what the measured time depends on, and prepares to connect.
func (m *moment) look(ctx context.Context) error {
	target, err := postgres.ParseTarget(m.server.DSN(replay.ConnectDatabase))
	if err != nil {
		return err
	}
	m.place = &place{maintenance: replay.ConnectDatabase, overrun: m.server.Overrun, detached: "subscriptions, autovacuum and jobs have no workers"}
	if err := m.place.look(ctx, target.With("password", "none")); err != nil {
		return pgmedic.Errorf(pgmedic.KindFailed, "the role is the one that initdb made; if it may not log in, a drill of a moment can't check its server", "connect to the recovered server: %w", err)
	}
	s := m.place.scratch
	s.Kind, s.Walls, s.MissingWalls = pgmedic.ScratchPrivate, m.server.Walls().Standing, m.server.Walls().Missing
	s.NoNetwork = m.server.Walls().Has(pgmedic.WallNetwork)
	s.CPUs, s.MemoryBytes, s.Platform = runtime.GOMAXPROCS(0), m.MemoryBytes, runtime.GOOS+"/"+runtime.GOARCH
	m.receipt.Scratch = s
	m.receipt.Checks = append(m.receipt.Checks, CageCheck(s))
	return nil
}

// reached says what was reached, for the receipt.
func (m *moment) reached() string {
	p := m.record
	if p.RestorePoint != "" {
		return fmt.Sprintf("as predicted: the last record replayed is the restore point %q, at %s; %s replayed", p.RestorePoint, p.ReachedLSN, words.Plural(p.Commits, "commit"))
	}
	switch {
	case p.LastCommitAt != nil:
		return fmt.Sprintf("as predicted: the last transaction is that of %s, at %s; %s replayed", p.LastCommitAt.Format("2006-01-02 15:04:05.999999Z"), p.LastCommitLSN, words.Plural(p.Commits, "commit"))
	case p.LastCommitLSN != "":
		return fmt.Sprintf("as predicted: the last transaction is at %s; %s replayed", p.LastCommitLSN, words.Plural(p.Commits, "commit"))
	}
	return "as predicted: no transaction ended since the base backup began"
}
