// Package migrate runs the migrations of a service with golang-migrate.
package migrate

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"

	"github.com/pgmedic/pgmedic/pool"
)

//go:embed migrations
var migrations embed.FS

// lockTimeout is how long an instance waits for another one that migrates. The default of
// golang-migrate is 15 s, after which a service that is started twice would fail.
const lockTimeout = time.Hour

// closeTimeout is how long the pool for migrations may take to close.
const closeTimeout = 20 * time.Second

// Config returns the configuration of a pool for migrations: two connections, without the
// limits on how long a statement may take, because an index may take hours to build, and
// an instance that starts at the same time waits for the lock in a statement. The
// connection must lead to the server itself, or to a PgBouncer in session mode: the lock
// belongs to a session.
func Config(c pool.Config) pool.Config {
	c.MaxConns = 2
	c.MinConns, c.MinIdleConns = 0, 0
	c.QueryTimeout, c.SocketTimeout = -1, -1
	return c
}

// Run brings the database to the newest version. It opens a pool for that and closes it.
func Run(ctx context.Context, c pool.Config) (err error) {
	db, err := pool.Open(ctx, Config(c))
	if err != nil {
		return fmt.Errorf("open a pool for migrations: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if closing := db.Shutdown(ctx); err == nil && closing != nil {
			err = fmt.Errorf("close the pool for migrations: %w", closing)
		}
	}()
	return Up(ctx, db)
}

// Up runs the migrations that the database does not have yet. When ctx ends, the migration
// that is under way is still finished.
func Up(ctx context.Context, db *pool.DB) error { return UpFrom(ctx, db, migrations, "migrations") }

// UpFrom is Up with the migrations in a folder.
func UpFrom(ctx context.Context, db *pool.DB, files fs.FS, folder string) (err error) {
	source, err := iofs.New(files, folder)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	target, err := migratepgx.WithInstance(db.Stdlib(), &migratepgx.Config{})
	if err != nil {
		_ = source.Close() // it is in memory
		return fmt.Errorf("prepare the table of migrations: %w", cause(err))
	}
	m, err := migrate.NewWithInstance("iofs", source, "pgx5", target)
	if err != nil {
		return errors.Join(fmt.Errorf("read the version of the database: %w", cause(err)), target.Close())
	}
	defer func() {
		// This closes the handle of Stdlib, too: the next call of Stdlib returns another.
		fromSource, fromTarget := m.Close()
		err = errors.Join(err, fromSource, fromTarget)
	}()
	m.LockTimeout = lockTimeout
	stop := context.AfterFunc(ctx, func() { m.GracefulStop <- true })
	defer stop()
	if err := m.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return fmt.Errorf("migrate: %w", cause(err))
	}
	return ctx.Err()
}

// cause returns the pool's error below one of golang-migrate's, which hides it from
// errors.Is and from pool.Classify, and has the statement and the server's detail in its
// text.
func cause(err error) error {
	var wrapped database.Error
	if errors.As(err, &wrapped) && wrapped.OrigErr != nil {
		return wrapped.OrigErr
	}
	var pointed *database.Error
	if errors.As(err, &pointed) && pointed.OrigErr != nil {
		return pointed.OrigErr
	}
	return err
}
