package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Options say what is drilled, where, and what is asked of the copy. Required:
// Catalog, Backup, Now.
type Options struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	// Key opens the backup where it is encrypted.
	Key *seal.Key
	// Kind is where the backup is restored to; empty means a private server.
	Kind string
	// Target and Maintenance are the server of the other kinds, and the database
	// to connect to for making and dropping; empty means postgres.
	Target      postgres.Target
	Maintenance string
	// Tools finds the client programs; ServerDirs are searched first for the
	// server's.
	Tools      pgtool.Finder
	ServerDirs []string
	// ScratchDir is where the private server's folder is made; empty means the
	// system's folder for temporary files. It needs room for the whole database.
	ScratchDir string
	// PreloadLibraries are the libraries that a private server preloads, for
	// extensions that can't be made without. None are, else: their workers act.
	PreloadLibraries []string
	// Kernel is what a private server's cage is made of; nil means what the system
	// offers. It is for tests.
	Kernel *scratch.Kernel
	// Jobs is how many connections load a parallel backup and check the copy;
	// zero means one for each processor.
	Jobs int
	// SkipAmcheck is why amcheck is left out; empty means that it is not.
	SkipAmcheck string
	// Assertions are asked of the copy last.
	Assertions []Assertion
	// AssertionTimeout bounds each; zero means no limit.
	AssertionTimeout time.Duration
	// Host and Version go into the receipt; MemoryBytes is the machine's
	// memory, zero where it can't be known.
	Host, Version string
	MemoryBytes   int64
	// ShowData is restore.Options.ShowData.
	ShowData func(object, words string)
	Progress func(pgmedic.Event)
	Logger   *slog.Logger
	Now      func() time.Time
}

// Run restores a backup into a scratch, compares the copy with what the backup
// recorded, lets the server check it, measures how long it took to recover,
// stores a receipt, and removes the scratch whatever happens. What a killed
// drill left is removed by the next one of the same place.
//
// A backup that does not restore, or restores to something else, is a failed
// receipt and a nil error. An error means that the drill could not be run or
// its receipt not be stored, and says nothing about the backup.
func Run(ctx context.Context, o Options) (_ *pgmedic.Receipt, err error) {
	o.Logger = discard(o.Logger)
	b := o.Backup
	if err := b.Check(); err != nil {
		return nil, fmt.Errorf("drill backup %s: %w", b.ID, err)
	}
	receipt := &pgmedic.Receipt{
		Format: pgmedic.ReceiptFormat, Kind: pgmedic.ReceiptDrill, BackupID: b.ID,
		Host: o.Host, Programs: pgmedic.Programs{Pgmedic: o.Version},
	}
	r := &rehearsal{Options: o, receipt: receipt}
	if err := r.step("start", func() (err error) { r.place, err = o.openPlace(ctx); return err }); err != nil {
		return nil, err
	}
	defer func() {
		if leaveErr := r.place.leave(context.WithoutCancel(ctx)); leaveErr != nil {
			err = errors.Join(err, leaveErr)
		}
	}()
	failpoint.Hit(ctx, "drill-started")
	receipt.Scratch = r.place.scratch
	receipt.Checks = append(receipt.Checks, CageCheck(receipt.Scratch))
	err = r.run(ctx)
	if overrun := r.place.overran(); overrun != nil {
		err = overrun
	}
	if err != nil {
		return nil, fmt.Errorf("drill backup %s: %w", b.ID, err)
	}
	failpoint.Hit(ctx, "drill-compared")
	return record{Catalog: o.Catalog, Backup: b, Key: o.Key, Receipt: receipt, Reached: pgmedic.ProofProven, Now: o.Now()}.store(ctx)
}

// rehearsal is a drill going on.
type rehearsal struct {
	Options
	place   *place
	receipt *pgmedic.Receipt
	// refusedSettings are those that the scratch server did not take.
	refusedSettings []string
	// withheld is true where the copy did not get its access list.
	withheld bool
	// sortsOtherwise is true where the indexes on text are those of the source, and this
	// machine sorts text otherwise.
	sortsOtherwise bool
}

// run restores and checks, and enters what it found into the receipt.
func (r *rehearsal) run(ctx context.Context) (err error) {
	if err := r.refuseSyntax(ctx); err != nil {
		return err
	}
	p := r.place
	loaded, err := restore.Load(ctx, restore.Options{
		Catalog: r.Catalog, Backup: r.Backup, Key: r.Key, Tools: r.Tools, Jobs: r.Jobs,
		Target: p.target, Maintenance: p.maintenance, Into: p.database, By: storyBy,
		Private: p.scratch.Kind != pgmedic.ScratchPrivate, CreateRoles: p.createRoles, TablespaceDir: p.tablespaceDir, LabelsOptional: true,
		ShowData: r.ShowData, Progress: r.Progress, Logger: r.Logger, Now: r.Now,
	})
	if err != nil {
		return r.judge(ctx, err)
	}
	defer func() {
		// From here on the database is ours to drop; a server of our own goes whole.
		if p.scratch.Kind == pgmedic.ScratchPrivate {
			return
		}
		if dropErr := restore.Drop(ctx, p.target, p.maintenance, p.database); dropErr != nil {
			err = errors.Join(err, fmt.Errorf("the drill's database is still there: %w", dropErr))
		}
	}()
	r.receipt.Steps = append(r.receipt.Steps, loaded.Steps...)
	r.receipt.RecoverySeconds = loaded.Seconds
	r.receipt.Counted = &pgmedic.Counted{}
	if err := r.refused(loaded.Refused); err != nil {
		return err
	}
	for _, setting := range p.refused {
		r.add("server settings", pgmedic.OutcomeWarn, "the scratch server does not take "+setting+
			", which the backup's server has: what the copy computes may differ")
	}
	for _, name := range loaded.RefusedSettings {
		r.add("database settings", pgmedic.OutcomeWarn, "the scratch server does not take "+name)
	}
	if p.scratch.Kind != pgmedic.ScratchPrivate {
		r.add("access list", pgmedic.OutcomeSkipped, "not given to the copy: others use that server, and only the copy's owner and superusers may connect to it")
	}
	r.refusedSettings, r.withheld = loaded.RefusedSettings, loaded.Withheld
	return r.judge(ctx, r.check(ctx))
}

// check runs every check on the copy. One that fails does not prevent the others.
func (r *rehearsal) check(ctx context.Context) error {
	for _, part := range []struct {
		step string
		do   func(context.Context) error
	}{
		{"compare", r.compare},
		{"cut off", r.cutOff},
		{"amcheck", r.amcheck},
		{"assertions", r.assert},
	} {
		if err := r.step(part.step, func() error { return part.do(ctx) }); err != nil {
			return err
		}
	}
	r.addDurability()
	return nil
}

// compare compares the copy with what the backup recorded.
func (r *rehearsal) compare(ctx context.Context) error {
	source := restore.Source{Catalog: r.Catalog, Backup: r.Backup, Key: r.Key}
	checks, err := restore.Compare(ctx, restore.CompareOptions{
		Source: source, Target: r.place.copied(), Tools: r.Tools, Jobs: r.Jobs, Progress: r.Progress, Now: r.Now,
		Private: r.withheld || r.place.scratch.Kind != pgmedic.ScratchPrivate, RefusedSettings: r.refusedSettings,
	})
	if err != nil {
		return err
	}
	r.receipt.Compared = restore.Compared(checks)
	r.receipt.Checks = append(r.receipt.Checks, checks...)
	tables := map[string]bool{}
	for _, t := range r.Backup.Tables {
		if t.Extension == "" {
			tables[sqltext.CountedAs(t)] = true
			r.receipt.Counted.Rows += t.Rows
		}
	}
	r.receipt.Counted.Tables = len(tables)
	conn, err := postgres.Connect(ctx, r.place.copied())
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	if err := r.constraints(ctx, conn); err != nil {
		return err
	}
	return r.extensions(ctx, conn)
}

func (r *rehearsal) addDurability() {
	s := r.place.scratch
	if s.Durable {
		return
	}
	var off []string
	for _, name := range durable() {
		if s.Settings[name] == "off" {
			off = append(off, name)
		}
	}
	r.add("time to recover", pgmedic.OutcomeWarn,
		"measured with "+strings.Join(off, " and ")+" off: a server that is safe against a power failure takes longer")
}

func (r *rehearsal) add(name string, outcome pgmedic.Outcome, detail string) {
	r.receipt.Checks = append(r.receipt.Checks, pgmedic.Check{Name: name, Outcome: outcome, Detail: detail})
}

// step measures one part of the drill.
func (r *rehearsal) step(name string, do func() error) error {
	took, err := progress.Step{Name: name, Report: r.report, Now: r.Now}.Do(do)
	r.receipt.Steps = append(r.receipt.Steps, took)
	return err
}

func (o Options) report(e pgmedic.Event) {
	if o.Progress != nil {
		o.Progress(e)
	}
}

// judge tells a backup that is bad from a drill that could not be run. Damage is
// the backup's; everything else (disk full, no such program, store gone, interrupt)
// is not. A refusal by the server because of the content is not an error of a restore.
func (r *rehearsal) judge(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		return err
	}
	r.receipt.Checks = append(r.receipt.Checks, pgmedic.Check{
		Name: "restores", Outcome: pgmedic.OutcomeFailed, Detail: err.Error(), Hint: pgmedic.HintOf(err),
	})
	return nil
}

// refused records what the server did not take of the backup. It is an error where it
// says something about this server and nothing about the backup.
func (r *rehearsal) refused(refused []restore.Refusal) error {
	for _, f := range refused {
		if !r.aboutBackup(f) {
			hint := "make this server accept it, or drill on another: this says nothing about the backup"
			if f.Extension {
				hint += "; for an extension whose library must be loaded, or that is bound to the name of one database, drill in a private server with its library in drill.preload_libraries"
			}
			return pgmedic.Errorf(pgmedic.KindFailed, hint, "the server could not make %s", f)
		}
	}
	if c := restore.RefusedCheck(refused); c != nil {
		c.Hint = "a new backup would have the same: docs/troubleshooting.md says what each reason can mean; a restore brings back everything else"
		r.receipt.Checks = append(r.receipt.Checks, *c)
		return nil
	}
	r.add("restores", pgmedic.OutcomeOK, "loaded without an error, every byte with its recorded hash")
	return nil
}

// aboutBackup reports whether something was refused because of the backup's content,
// not because this server lacks something.
func (r *rehearsal) aboutBackup(f restore.Refusal) bool {
	unknown := f.SQLState == "" // too much was refused to try all of it again
	return !f.Extension && (unknown || strings.HasPrefix(f.SQLState, "54") || r.refusedFor(f.SQLState))
}

func (r *rehearsal) refusedFor(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", "53", "54", "55", "57", "58":
		return false
	}
	// A server of our own refuses its superuser nothing that another would allow.
	return code != "42501" || r.place.scratch.Kind == pgmedic.ScratchPrivate
}
