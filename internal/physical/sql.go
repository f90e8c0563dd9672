package physical

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/replication"
)

// sqlSession is an ordinary session with the server, which a role that has REPLICATION alone
// may not have. A nil one knows nothing.
type sqlSession struct {
	mu   sync.Mutex
	conn *pgx.Conn

	version   int
	bootstrap string
	databases []pgmedic.ClusterDatabase
	preload   []string
}

// openSQL connects, and reads what the manifest says of the cluster. A server that does not
// let the role in is not an error: the log says what the backup lacks.
func openSQL(ctx context.Context, o Options) (*sqlSession, error) {
	target := o.Target
	if target.Database() == "" { // else it would be the one with the name of the role
		target = target.WithDatabase(o.Maintenance)
	}
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		o.Logger.Warn("no ordinary session with the server: the backup lacks its settings and the names of databases, and pages that are wrong are not read again", "error", err)
		return nil, nil //nolint:nilnil // nil is a session that knows nothing
	}
	s := &sqlSession{conn: conn}
	if err := s.read(ctx); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

func (s *sqlSession) close(ctx context.Context) {
	if s != nil {
		postgres.Close(ctx, s.conn)
	}
}

// read reads what the manifest says of the cluster.
func (s *sqlSession) read(ctx context.Context) error {
	server, err := postgres.ReadServer(ctx, s.conn)
	if err != nil {
		return err
	}
	s.version, s.bootstrap = server.VersionNum, server.BootstrapRole
	provider, collation, version := "'libc'", "d.datcollate::text", "''"
	if s.version >= 150000 {
		provider = "CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END"
		version = "coalesce(d.datcollversion, '')"
		column := "daticulocale"
		if s.version >= 170000 {
			column = "datlocale"
		}
		collation = "coalesce(d." + column + ", d.datcollate::text)"
	}
	type row struct {
		OID                              uint32
		Name, Collate, Provider, Version string
	}
	rows, err := postgres.Collect[row](ctx, s.conn, fmt.Sprintf(
		"SELECT d.oid, d.datname::text AS name, %s AS collate, %s AS provider, %s AS version FROM pg_catalog.pg_database AS d ORDER BY d.oid", collation, provider, version))
	if err != nil {
		return postgres.Wrap(err, "read the names of the databases")
	}
	for _, d := range rows {
		s.databases = append(s.databases, pgmedic.ClusterDatabase{OID: d.OID, Name: d.Name, Collate: d.Collate, LocaleProvider: d.Provider, CollationVersion: d.Version})
	}
	if err := s.checkTablespaces(ctx); err != nil {
		return err
	}
	var preload string
	err = s.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('shared_preload_libraries')").Scan(&preload)
	switch {
	case postgres.Code(err) == codePrivilege:
	case err != nil:
		return postgres.Wrap(err, "read the libraries that the server loads")
	default:
		for name := range strings.SplitSeq(preload, ",") {
			if name = strings.Trim(strings.TrimSpace(name), `"`); name != "" {
				s.preload = append(s.preload, name)
			}
		}
	}
	return nil
}

// checkTablespaces refuses a cluster whose tablespaces no restore could place. Where the server
// can't say, as of one whose link is broken, it does so when the backup begins.
func (s *sqlSession) checkTablespaces(ctx context.Context) error {
	rows, err := postgres.Collect[replication.BaseBackupTablespace](ctx, s.conn, `
SELECT oid, pg_catalog.pg_tablespace_location(oid) AS location, 0::bigint AS sizebytes
FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid`)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		rows = nil
	}
	return checkTablespaces(rows)
}

// checkTablespaces refuses tablespaces that no restore could place: those within the data
// directory, which developers make with allow_in_place_tablespaces, among them.
func checkTablespaces(all []replication.BaseBackupTablespace) error {
	for _, t := range all {
		if recovery.CheckPlace(path.Clean(t.Location)) != nil {
			return pgmedic.Errorf(pgmedic.KindUsage, "move what is in it to another tablespace, and drop it",
				"tablespace %d is at %.200q, where no restore could make it: it is within the data directory, or its path has a line break", t.OID, t.Location)
		}
	}
	return nil
}

// codePrivilege is insufficient_privilege.
const codePrivilege = "42501"

// readPage reads a page of a file in the data directory once more. It returns nil where the
// role may not, or where the page is gone.
func (s *sqlSession) readPage(ctx context.Context, path string, block int64, size int) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []byte
	err := s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_read_binary_file($1, $2, $3, true)", path, block*int64(size), int64(size)).Scan(&page)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil || len(page) != size {
		return nil, nil // a page that can't be read again is as bad as before
	}
	return page, nil
}

// configured is what is stored of the configuration.
type configured struct {
	Format int `json:"format"`
	// Settings are those that are not at their default.
	Settings []setting `json:"settings"`
	// Files are those that decide who may connect, and the configuration itself, which can be
	// outside of the data directory.
	Files []configFile `json:"files"`
	// Unread are what the role may not read.
	Unread []string `json:"unread,omitempty"`
}

type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Unit   string `json:"unit,omitempty"`
	Source string `json:"source"`
}

type configFile struct {
	// Setting is what names the file, such as hba_file.
	Setting string `json:"setting"`
	Path    string `json:"path"`
	Text    string `json:"text"`
}

// maxConfigBytes is how much of a file of the configuration is stored.
const maxConfigBytes = 1 << 20

// storeSettings stores the server's configuration, as far as the role may read it.
func (r *run) storeSettings(ctx context.Context) error {
	if r.sql == nil {
		return nil
	}
	c, err := r.sql.configuration(ctx)
	if err != nil {
		return err
	}
	if len(c.Unread) > 0 {
		r.Logger.Info("the role may not read all of the server's configuration: the backup lacks it", "unread", c.Unread)
	}
	return r.putSealed(ctx, "settings.json", pgmedic.RoleSettings, func(_ context.Context, w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(c)
	})
}

func (s *sqlSession) configuration(ctx context.Context) (configured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := configured{Format: 1, Settings: []setting{}, Files: []configFile{}}
	rows, err := postgres.Collect[setting](ctx, s.conn, `
SELECT name, setting AS value, coalesce(unit, '') AS unit, source FROM pg_catalog.pg_settings
WHERE source NOT IN ('default', 'override', 'client', 'session') ORDER BY name`)
	if err != nil {
		return c, postgres.Wrap(err, "read the server's settings")
	}
	for _, row := range rows {
		row.Value = pgmedic.EscapeBytes(row.Value)
		c.Settings = append(c.Settings, row)
	}
	var all bool
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_has_role('pg_read_all_settings', 'MEMBER')").Scan(&all); err != nil {
		return c, postgres.Wrap(err, "read the role's privileges")
	}
	if !all {
		c.Unread = append(c.Unread, "settings of superusers")
	}
	for _, name := range []string{"config_file", "hba_file", "ident_file"} {
		f := configFile{Setting: name}
		err := s.conn.QueryRow(ctx, "SELECT f, pg_catalog.convert_from(pg_catalog.pg_read_binary_file(f, 0, $2), 'SQL_ASCII') FROM pg_catalog.current_setting($1) AS f", name, int64(maxConfigBytes)).
			Scan(&f.Path, &f.Text)
		switch {
		case err != nil && ctx.Err() != nil:
			return c, context.Cause(ctx)
		case err != nil, len(f.Text) >= maxConfigBytes:
			c.Unread = append(c.Unread, name)
		default:
			f.Text = pgmedic.EscapeBytes(f.Text)
			c.Files = append(c.Files, f)
		}
	}
	slices.Sort(c.Unread)
	return c, nil
}
