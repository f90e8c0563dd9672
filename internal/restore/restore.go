// Package restore brings a backup back: into a new database, always, which is
// compared with what the backup recorded before anything else happens. Package swap
// puts such a copy in a live database's place; package rescue brings single tables
// back beside the living ones, and package inplace to where they were; package cluster
// restores base backups into a data folder.
package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// Options say what is restored and where. Required: Catalog, Backup, Into,
// Logger, Now.
type Options struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	// Dump, if not nil, is restored in place of a backup. Backup is then what
	// Dump.Describe returned, and no Catalog is needed.
	Dump *Dump
	// Key opens the backup where it is encrypted.
	Key *seal.Key
	// Target is the server; which database it names does not matter.
	Target postgres.Target
	// Maintenance is the database to connect to for creating others; empty
	// means postgres.
	Maintenance string
	// Into is the database to make. It must not exist.
	Into string
	// Of is the name that Into is to take later; empty means it keeps its own.
	Of string
	// By is what makes the database, as its story tells; empty means restore.
	By string
	// Private leaves the copy closed to everyone but its owner and superusers: the
	// recorded access list and connection limit are not given back.
	Private bool
	Tools   pgtool.Finder
	// CreateRoles makes the roles that the backup needs and the server lacks,
	// unable to log in. For scratch servers: on a real one, roles carry rights
	// that its administrator has to decide about.
	CreateRoles bool
	// TablespaceDir gives the folder for a tablespace that the server lacks;
	// nil means that a missing tablespace is an error. For scratch servers.
	TablespaceDir func(name string) (string, error)
	// Globals says whether the backup's roles and tablespaces are made first.
	Globals GlobalsMode
	// Displaced is true where the backup was taken of a copy whose tablespaces are not where
	// those of the source were. Its globals make roles alone: a tablespace would be made in a
	// folder that goes with the copy.
	Displaced bool
	// ConfirmGlobals is called with what becomes of the roles before anything is done, if
	// some that are there would change; an error stops the run. Nil confirms
	// everything.
	ConfirmGlobals func(Globals) error
	// Without leaves rows, or owners and access lists, out of the copy. With the
	// owners the roles go, too: all is the restoring role's.
	Without dumpsql.Without
	// LabelsOptional has security labels left out where the server has not loaded
	// their providers' libraries; else that is an error. For scratch servers.
	LabelsOptional bool
	// Jobs is how many connections load a parallel backup; zero means one for
	// each processor.
	Jobs int
	// CountsOnly, if not empty, is why the rows of the copy are only counted, and not
	// compared value by value.
	CountsOnly string
	// ShowData, if not nil, receives the server's own messages for what it refused, which
	// may quote rows: they are only for a person who asked for them.
	ShowData func(object, words string)
	Progress func(pgmedic.Event)
	Logger   *slog.Logger
	Now      func() time.Time
}

// Loader brings back what one method stored. It is the seam behind which the
// plain, the parallel and the physical restore differ.
//
// Load is called once, with a database that is new and empty. It fills it,
// constraints and indexes included, and returns nil only if every byte that it
// used was authenticated or hashed to what the manifest says. It never touches
// another database, and on an error it leaves the half-filled one to its
// caller, who drops it. A refusal by the server because of the content is not an
// error: Session.refuse records it, and all else is brought back.
//
// Ready is called once before Load, and before anything is made: it looks for the
// programs that Load needs.
//
// Again may be called after Load, with the session of the same database under another
// name: it tries once more what was refused, and names what stays refused.
type Loader interface {
	Ready(ctx context.Context, s *Session) error
	Load(ctx context.Context, s *Session) error
	Again(ctx context.Context, s *Session) error
}

// Session is a restore going on, as a Loader sees it.
type Session struct {
	Options
	// Database is the target with the new database's name.
	Database postgres.Target

	loader Loader
	// admin makes, names and drops databases; server is what it is connected to.
	admin  *pgx.Conn
	server pgmedic.Server
	steps  progress.Steps
	// refusedSettings are those that the server did not take.
	refusedSettings []string

	// live is true once others use the database: what they made is found by no name
	// that lacks its schema.
	live bool

	refusedMu sync.Mutex
	refused   []Refusal
}

// Source is the backup to read from.
func (o *Options) Source() Source { return Source{Catalog: o.Catalog, Backup: o.Backup, Key: o.Key} }

// Loaded is what a restore into a new database did.
type Loaded struct {
	Steps []pgmedic.Step
	// Seconds is from the first statement to the analyzed database.
	Seconds float64
	// RefusedSettings are database settings that this server did not take.
	RefusedSettings []string
	// Refused is what of the backup the server did not take. All else is there.
	Refused []Refusal
	// Withheld is true where the copy stays closed to everyone but its owner and
	// superusers, because something is missing that keeps rows from others.
	Withheld bool
	// RefusedBefore is how much was refused by a run before this one, which loaded the
	// copy; what it was is not known any more.
	RefusedBefore int
	// loader knows what was refused; nil where a run before this one loaded the copy.
	loader Loader
	// Globals is what was made before, if it was asked for.
	Globals *Globals
}

// loaderOf returns the Loader of a method.
func loaderOf(m pgmedic.Method) (Loader, error) {
	switch m {
	case pgmedic.MethodPlain:
		return &plain{}, nil
	case pgmedic.MethodParallel:
		return &parallel{}, nil
	}
	return nil, pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic on this host", "this version can't restore a %q backup", m)
}

// Check refuses options that can't be right, and a backup whose manifest contradicts
// itself; it fills in the defaults, and makes the backup one that needs no roles where
// owners are left out. Load, Into and Foresee call it themselves.
func (o *Options) Check() error {
	if o.Catalog == nil && o.Dump == nil || o.Backup == nil || o.Into == "" || o.Logger == nil || o.Now == nil {
		return errors.New("restore: Catalog, Backup, Into, Logger and Now are required")
	}
	if o.Dump == nil {
		if err := o.Backup.Check(); err != nil {
			return err
		}
	}
	o.Target = o.Target.Patient()
	if o.Maintenance == "" {
		o.Maintenance = postgres.DefaultMaintenance
	}
	if o.By == "" {
		o.By = "restore"
	}
	if len(o.Into) > databases.MaxNameBytes {
		return pgmedic.Errorf(pgmedic.KindUsage, "choose a shorter name", "database name %q is longer than %d bytes",
			o.Into, databases.MaxNameBytes)
	}
	if o.Without.Owners {
		o.Backup = ownerless(o.Backup)
	}
	return nil
}

// ownerless is a backup whose database is owned by who restores it, and that
// needs no roles.
func ownerless(b *pgmedic.Backup) *pgmedic.Backup {
	changed := *b
	d := &changed.Database
	d.Owner, d.ACL, d.DefaultACL, d.Roles = "", nil, true, nil
	d.Settings = slices.DeleteFunc(slices.Clone(d.Settings), func(s pgmedic.Setting) bool { return s.Role != "" })
	return &changed
}

// open is how each restore into a new database begins: it connects, and makes
// nothing. The caller closes the session.
func open(ctx context.Context, o Options) (*Session, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	s := &Session{Options: o, Database: o.Target.WithDatabase(o.Into), steps: progress.Steps{Report: o.Progress, Now: o.Now}}
	var err error
	if s.loader, err = loaderOf(o.Backup.Method); err != nil {
		return nil, err
	}
	if s.admin, err = postgres.ConnectAdmin(ctx, o.Target, o.Maintenance); err != nil {
		return nil, err
	}
	if s.server, err = postgres.ReadServer(ctx, s.admin); err != nil {
		s.close(ctx)
		return nil, err
	}
	if s.Database, err = s.Database.InEnglish(ctx, s.admin); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

func (s *Session) close(ctx context.Context) { postgres.Close(ctx, s.admin) }

// Load restores a backup into a new database. When it returns an error, the
// database that it made is gone again; if even that fails the error says so.
func Load(ctx context.Context, o Options) (*Loaded, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close(ctx)
	if err := s.loader.Ready(ctx, s); err != nil {
		return nil, err
	}
	if err := s.checkUnread(ctx); err != nil {
		return nil, err
	}
	if err := s.confirmGlobals(ctx); err != nil {
		return nil, err
	}
	began := o.Now()
	var globals *Globals
	if o.Globals != GlobalsNone {
		err := s.Step("globals", func() (err error) {
			globals, err = s.restoreGlobals(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if err := s.Step("create", func() error { return s.create(ctx) }); err != nil {
		return nil, err
	}
	loaded, err := s.fill(ctx, began)
	if err != nil {
		if dropErr := Drop(ctx, o.Target, s.Maintenance, o.Into); dropErr != nil {
			return nil, errors.Join(err, fmt.Errorf("the half-restored database is still there: %w", dropErr))
		}
		return nil, err
	}
	loaded.Globals = globals
	return loaded, nil
}

func (s *Session) fill(ctx context.Context, began time.Time) (*Loaded, error) {
	if err := s.refusePoolersSettings(ctx); err != nil {
		return nil, err
	}
	if err := s.readMoneyAs(ctx); err != nil {
		return nil, err
	}
	if err := s.Step("load", func() error { return s.loader.Load(ctx, s) }); err != nil {
		if s.Dump != nil {
			return nil, fmt.Errorf("load the dump: %w", err)
		}
		return nil, fmt.Errorf("load backup %s: %w", s.Backup.ID, err)
	}
	failpoint.Hit(ctx, "restore-loaded")
	if err := databases.DetachSubscriptions(ctx, s.Database); err != nil {
		return nil, err
	}
	if err := s.Step("analyze", func() error { return s.analyze(ctx) }); err != nil {
		return nil, err
	}
	failpoint.Hit(ctx, "restore-analyzed")
	loaded := &Loaded{loader: s.loader, Seconds: progress.Seconds(s.Now().Sub(began)), Refused: s.refusals(), Withheld: slices.ContainsFunc(s.refused, Refusal.protects)}
	// Last, because they would hinder the sessions that load the rows, and let others in.
	err := s.Step("properties", func() error {
		refused, err := s.applyLate(ctx)
		loaded.RefusedSettings = slices.Concat(s.refusedSettings, refused)
		if err == nil && !s.Private && !loaded.Withheld {
			err = databases.ApplyAccess(ctx, s.admin, s.Into, s.Backup.Database)
		}
		return err
	})
	failpoint.Hit(ctx, "restore-properties")
	loaded.Steps = s.steps.Done
	return loaded, err
}

// create makes the empty database, having looked first for everything that
// would stop the load halfway.
func (s *Session) create(ctx context.Context) error {
	if err := databases.RefuseStandby(s.server); err != nil {
		return err
	}
	if err := s.refuseTaken(ctx); err != nil {
		return err
	}
	for _, look := range []func(context.Context) error{s.prepareRoles, s.refusePowerless, s.prepareTablespaces, s.refuseMissingExtensions, s.prepareLabels} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("create database %q: %w", s.Into, context.Cause(ctx))
	}
	// Not interrupted: whether an interrupted CREATE DATABASE made one or not
	// is not known, and no run would drop one without a story.
	err := databases.Create(context.WithoutCancel(ctx), s.admin, s.Into, s.Backup.Database, s.server.VersionNum)
	if err != nil {
		return err
	}
	failpoint.Hit(ctx, "restore-created")
	// However this process ends from here on, the database says what it is.
	now, err := databases.ServerTime(ctx, s.admin)
	if err == nil {
		err = databases.SetStory(ctx, s.admin, s.Into, pgmedic.Story{
			Pgmedic: pgmedic.StoryLoading, Of: cmp.Or(s.Of, s.Into), By: s.By, Backup: s.Backup.ID, Since: now,
		})
	}
	if err == nil {
		failpoint.Hit(ctx, "restore-named")
		err = databases.Open(ctx, s.admin, s.Into)
	}
	if err == nil {
		// What is computed while rows come and indexes are built is computed as it
		// was where the backup was taken.
		s.refusedSettings, err = s.applySettings(ctx, databases.EarlySettings(s.Backup.Database))
	}
	if err == nil {
		err = databases.ApplyCreate(ctx, s.admin, s.Into, s.Backup.Database)
	}
	if err != nil {
		return errors.Join(err, Drop(ctx, s.Target, s.Maintenance, s.Into))
	}
	return nil
}

// applySettings gives the copy settings. They are in its own encoding, and so is the
// session.
func (s *Session) applySettings(ctx context.Context, d pgmedic.Database) (refused []string, err error) {
	if len(d.Settings) == 0 {
		return nil, nil
	}
	conn, err := postgres.ConnectBytes(ctx, s.Database)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	return databases.ApplySettings(ctx, conn, s.Into, d)
}

// applyLate gives the copy what would have hindered the load.
func (s *Session) applyLate(ctx context.Context) (refused []string, err error) {
	late := databases.LateSettings(s.Backup.Database)
	if s.Without.Owners || s.Without.Labels {
		late.SecurityLabels = nil
	}
	if len(late.Settings)+len(late.SecurityLabels) == 0 {
		return nil, nil
	}
	conn, err := postgres.ConnectBytes(ctx, s.Database)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	refused, err = databases.ApplySettings(ctx, conn, s.Into, late)
	if err == nil {
		err = databases.ApplyLabels(ctx, conn, s.Into, late)
	}
	return refused, err
}

// Step measures one part of the restore and records how long it took.
func (s *Session) Step(name string, do func() error) error { return s.steps.Do(name, do) }

// Drop drops a database that a restore made, also when ctx has ended. What leads to
// the DROP DATABASE takes thirty seconds at most.
func Drop(ctx context.Context, t postgres.Target, maintenance, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	conn, err := postgres.ConnectAdmin(ctx, t, maintenance)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return err
	}
	return databases.DropWhole(ctx, conn, t.WithDatabase(name), server.VersionNum)
}

// DropCopy drops the copy that a restore with these options made, as Drop does.
func DropCopy(ctx context.Context, o Options) error {
	if err := Drop(ctx, o.Target, o.Maintenance, o.Into); err != nil {
		return fmt.Errorf("the restored copy is still there: %w", err)
	}
	return nil
}
