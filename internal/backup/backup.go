// Package backup takes a database out to a store: one snapshot, read by a
// method, sealed as it streams, and committed by its manifest at the very end.
package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say what is backed up, how and where to. Required: Catalog, Method,
// Seal.Compression, Logger, Now.
type Options struct {
	// Target is the database to back up.
	Target postgres.Target
	// Maintenance is the database in which the run lock is taken; empty means
	// postgres.
	Maintenance string
	// Locked is true when the caller holds the run lock of this database.
	Locked bool
	// ServerName is what the backup is filed under; empty means the server's
	// system identifier.
	ServerName string
	Catalog    *catalog.Catalog
	Method     Method
	Tools      pgtool.Finder
	// Seal says how the backup is compressed, and encrypted: with
	// EncryptionAge the key is made here, and Wraps must not be empty;
	// EncryptionAES256CBC is for Plain alone, and has its key from a passphrase.
	Seal  seal.Options
	Wraps []seal.Wrap
	// Signer signs the manifest; nil leaves it unsigned.
	Signer *signature.Key
	// Purpose is PurposeRegular if empty.
	Purpose pgmedic.Purpose
	Labels  map[string]string
	// Patterns choose what of the database is taken; without any it is all.
	Patterns snapshot.Patterns
	// LockTimeout bounds the wait for table locks; zero means 30 s.
	LockTimeout time.Duration
	// MaxDuration ends the whole run; zero means no limit.
	MaxDuration time.Duration
	// Host and Version go into the manifest.
	Host, Version string
	// Progress receives events from one goroutine at a time; nil disables them.
	Progress func(pgmedic.Event)
	Logger   *slog.Logger
	Now      func() time.Time
}

// Method is a way to take what a database holds and store it. It is the seam
// behind which the plain, the parallel and the physical backup differ.
//
// Take is called once, with an open Run. It stores objects through the Run and
// returns when all of them are stored; the Run has then recorded each with its
// hash. Rows are those of one moment, which Take writes into the manifest
// together with the rows that each table contributed. On any error Take returns
// it, having ended whatever it started; what it stored stays, as orphans that
// have no manifest, and the backup does not exist. Take never commits, never
// retries the whole, and never outlives ctx by more than a few seconds.
type Method interface {
	Name() pgmedic.Method
	Take(ctx context.Context, r *Run) error
}

func (o Options) check() error {
	switch {
	case o.Catalog == nil, o.Method == nil, o.Logger == nil, o.Now == nil:
		return errors.New("backup: Catalog, Method, Logger and Now are required")
	case o.Seal.Encryption == seal.EncryptionAES256CBC && o.Method.Name() != pgmedic.MethodPlain:
		return pgmedic.Errorf(pgmedic.KindUsage, "set backup.encryption to age, or backup.method to plain",
			"%s is for plain backups only", o.Seal.Encryption)
	}
	return o.Patterns.Check()
}

// errMaxDuration is the cause of a run that took too long.
var errMaxDuration = errors.New("the backup took longer than its maximum duration")

// Take takes one backup and returns its manifest. When it returns an error
// there is no backup: nothing is listed, and at most some orphaned objects are
// left in the store.
func Take(ctx context.Context, o Options) (*pgmedic.Backup, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Maintenance == "" {
		o.Maintenance = postgres.DefaultMaintenance
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 30 * time.Second // to pg_dump zero means to wait for ever
	}
	if o.MaxDuration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.MaxDuration, errMaxDuration)
		defer cancel()
	}
	b, err := take(ctx, o)
	if err != nil && errors.Is(context.Cause(ctx), errMaxDuration) {
		return nil, pgmedic.Errorf(pgmedic.KindFailed, "raise backup.max_duration, or run it at a quieter hour",
			"%w of %s", errMaxDuration, words.Duration(o.MaxDuration))
	}
	return b, err
}

func take(ctx context.Context, o Options) (*pgmedic.Backup, error) {
	conn, err := postgres.Connect(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	if o.Target, err = o.Target.As(conn).InEnglish(ctx, conn); err != nil {
		return nil, err
	}
	b, err := describe(ctx, conn, o)
	if err != nil {
		return nil, err
	}
	if !o.Locked {
		lock, err := databases.AcquireRunLock(ctx, o.Target, o.Maintenance, b.Database.Name)
		if err != nil {
			return nil, err
		}
		defer lock.Release(ctx)
	}
	failpoint.Hit(ctx, "backup-locked")
	r := &Run{Options: o, Manifest: b, conn: conn, sums: newSums()}
	defer r.session()() // the snapshot's
	defer r.session()() // the run lock's
	if err := r.storeKeys(ctx); err != nil {
		return nil, err
	}
	if err := r.watched(ctx, func(ctx context.Context) error { return o.Method.Take(ctx, r) }); err != nil {
		return nil, fmt.Errorf("back up database %q: %w", b.Database.Name, err)
	}
	// Several goroutines stored them: in the order of their names two manifests of
	// one database are alike.
	slices.SortFunc(b.Objects, func(x, y pgmedic.Object) int { return strings.Compare(x.Name, y.Name) })
	slices.SortStableFunc(b.Steps, func(x, y pgmedic.Step) int { return cmp.Compare(rank(x), rank(y)) })
	failpoint.Hit(ctx, "backup-stored")
	if err := r.storeRecovery(ctx); err != nil {
		return nil, err
	}
	failpoint.Hit(ctx, "backup-before-commit")
	b.FinishedAt = o.Now().UTC()
	var mac func([]byte) (string, error)
	if r.Seal.Key != nil {
		mac = r.Seal.Key.MAC
	}
	var signers []*signature.Key
	if o.Signer != nil {
		signers = append(signers, o.Signer)
	}
	if err := o.Catalog.Commit(ctx, b, mac, signers...); err != nil {
		return nil, fmt.Errorf("commit backup %s: %w", b.ID, err)
	}
	failpoint.Hit(ctx, "backup-committed")
	return b, nil
}

// rank is a step's place among those that go on at once.
func rank(s pgmedic.Step) int {
	order := []string{"snapshot", "inventory", "globals"}
	if i := slices.Index(order, s.Name); i >= 0 {
		return i
	}
	return len(order)
}

// describe begins a manifest with what is known before the snapshot.
func describe(ctx context.Context, conn *pgx.Conn, o Options) (*pgmedic.Backup, error) {
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	server.Name = o.ServerName
	if server.Name == "" {
		server.Name = server.SystemIdentifier
	}
	if server.Name == "" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "give the server a name: `server:` in pgmedic.yaml, or PGMEDIC_SERVER",
			"this role may not read the server's system identifier, and no name is configured")
	}
	if server.Settings, err = databases.ReadValueSettings(ctx, conn); err != nil {
		return nil, err
	}
	database, err := postgres.ReadDatabase(ctx, conn, server.VersionNum)
	if err != nil {
		return nil, err
	}
	now := o.Now()
	purpose := o.Purpose
	if purpose == "" {
		purpose = pgmedic.PurposeRegular
	}
	return &pgmedic.Backup{
		Format: pgmedic.ManifestFormat, ID: catalog.NewID(now), Method: o.Method.Name(), Purpose: purpose,
		StartedAt: now.UTC(), Host: o.Host, Programs: pgmedic.Programs{Pgmedic: o.Version},
		Server: server, Database: database, Labels: o.Labels,
		Seal: pgmedic.Seal{Compression: string(o.Seal.Compression), Encryption: encryptionName(o.Seal)},
	}, nil
}
