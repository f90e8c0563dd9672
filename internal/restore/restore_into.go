package restore

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
)

// Restored is what a restore into a new database did.
type Restored struct {
	Database string `json:"database"`
	BackupID string `json:"backup_id"`
	// Moment is that of which the database is, in words, where a cluster was recovered to
	// it; BackupID is then the base backup. Empty means the moment of the backup.
	Moment  string  `json:"moment,omitempty"`
	Seconds float64 `json:"seconds"`
	// RecoverySeconds is the part of them until the copy was loaded, indexed and
	// analyzed.
	RecoverySeconds float64         `json:"recovery_seconds"`
	Steps           []pgmedic.Step  `json:"steps"`
	Checks          []pgmedic.Check `json:"checks"`
	RefusedSettings []string        `json:"refused_settings,omitempty"`
	// Globals is what was made of the backup's roles and tablespaces, where that
	// was asked for.
	Globals *Globals `json:"globals,omitempty"`
	// Incomplete is true where something is missing or differs: the failed checks list
	// all of it, and Refused what the server did not take. The copy is there all the
	// same.
	Incomplete bool      `json:"incomplete,omitempty"`
	Refused    []Refusal `json:"refused,omitempty"`
	// Withheld is Loaded's.
	Withheld bool `json:"access_withheld,omitempty"`
}

// Degraded returns what is not as it was in the backup, as an error, or nil.
func (r *Restored) Degraded() error {
	if err := IncompleteError(r.Database, r.Checks); err != nil {
		return err
	}
	return r.Globals.Degraded()
}

// Into restores a backup into a new database, compares it with what the backup
// recorded and gives it the recorded comment. When it returns an error there is
// no such database. What could not be made, or differs from what was recorded,
// is not an error: see Restored.Incomplete.
func Into(ctx context.Context, o Options) (*Restored, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	lock, err := databases.AcquireRunLock(ctx, o.Target, o.Maintenance, o.Into)
	if err != nil {
		return nil, err
	}
	defer lock.Release(ctx)
	if err := sweepLoading(ctx, o); err != nil {
		return nil, err
	}
	loaded, err := Load(ctx, o)
	if err != nil {
		return nil, err
	}
	steps := progress.Steps{Report: o.Progress, Now: o.Now, Done: loaded.Steps}
	done := &Restored{Database: o.Into, BackupID: o.Backup.ID, RecoverySeconds: loaded.Seconds, RefusedSettings: loaded.RefusedSettings, Globals: loaded.Globals, Refused: loaded.Refused, Withheld: loaded.Withheld}
	began := o.Now()
	err = steps.Do("compare", func() (err error) {
		done.Checks, err = CompareLoaded(ctx, o, loaded)
		return err
	})
	if err == nil {
		done.Incomplete = len(Missing(done.Checks)) > 0
		failpoint.Hit(ctx, "into-compared")
		err = finish(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(err, DropCopy(ctx, o))
	}
	done.Steps = steps.Done
	done.Seconds = loaded.Seconds + progress.Seconds(o.Now().Sub(began))
	return done, nil
}

// sweepLoading drops a database of the wanted name that a restore left half
// loaded when it was killed. We hold the run lock, so that restore is dead.
func sweepLoading(ctx context.Context, o Options) error {
	conn, err := postgres.ConnectAdmin(ctx, o.Target, o.Maintenance)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	k, err := halfLoaded(ctx, conn, o.Into)
	if err != nil || k == nil {
		return err
	}
	o.Logger.Info("dropping what a restore left behind", "database", k.Name, "since", k.Story.Since)
	return Drop(ctx, o.Target, o.Maintenance, o.Into)
}

// halfLoaded returns the database of a name if it is what a restore left half
// loaded, or nil. One that is still of use is an error.
func halfLoaded(ctx context.Context, conn *pgx.Conn, name string) (*databases.Kept, error) {
	stories, err := databases.ReadStories(ctx, conn)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(stories, func(k databases.Kept) bool { return k.Name == name && k.Story.Pgmedic == pgmedic.StoryLoading })
	if i < 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	return &stories[i], stories[i].RefuseInUse()
}

// finish replaces the story of the load by the recorded comment. The load ran
// without waiting for the disk; this commit does, and all before it with it.
func finish(ctx context.Context, o Options) error {
	conn, err := postgres.ConnectAdmin(ctx, o.Target, o.Maintenance)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	return databases.SetOwnComment(ctx, conn, o.Target.WithDatabase(o.Into), pgmedic.OwnComment(o.Backup.Database.Comment))
}
