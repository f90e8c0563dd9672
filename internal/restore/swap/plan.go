package swap

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// plan collects everything that a person should know, and every obstacle, before
// anything is made.
func (r *swapRun) plan(ctx context.Context, o *Options, kept string) (Plan, error) {
	p := Plan{Live: o.Live, Kept: kept, SafetyBackup: o.SafetyBackup != nil, SafetySkipped: o.SkipSafety}
	if o.Backup != nil {
		p.Incoming, p.Since = o.Backup.ID, o.Backup.SnapshotAt
	}
	var power databases.Power
	err := r.admin.QueryRow(ctx, `SELECT d.oid, NOT d.datallowconn, (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid = d.oid),
			m.rolname::text, pg_catalog.pg_get_userbyid(d.datdba)::text, m.rolsuper OR m.rolcreatedb, pg_catalog.pg_has_role(d.datdba, 'USAGE')
		FROM pg_catalog.pg_database AS d, pg_catalog.pg_roles AS m WHERE d.datname = $1 AND m.rolname = current_user`, o.Live).
		Scan(&p.liveOID, &p.Closed, &p.Sessions, &power.Role, &power.Owner, &power.Creates, &power.Owns)
	if errors.Is(err, pgx.ErrNoRows) {
		if p.SafetyBackup {
			p.SafetyBackup, p.SafetySkipped = false, "there is no live database"
		}
		return p, nil
	}
	if err != nil {
		return p, postgres.Wrap(err, "look for database "+sqltext.QuoteIdent(o.Live))
	}
	p.LiveExists = true
	if err := power.Refuse(); err != nil {
		return p, err
	}
	if err := r.refuseObstacles(ctx, o); err != nil {
		return p, err
	}
	if p.Standbys, err = r.checkStandbys(ctx, o); err != nil {
		return p, err
	}
	return p, r.lookInto(ctx, o, &p)
}

// lookInto connects to the live database. One that takes no connections, or that
// the server can't open, has no safety backup; it is replaced all the same.
func (r *swapRun) lookInto(ctx context.Context, o *Options, p *Plan) error {
	conn, err := postgres.Connect(ctx, o.Target.WithDatabase(o.Live))
	if err != nil {
		if code := postgres.Code(err); code != "55000" && code != "3D000" && !strings.HasPrefix(code, "XX") && !strings.HasPrefix(code, "58") {
			return err
		}
		o.Logger.Warn("cannot read the live database", "error", err)
		if p.SafetyBackup {
			p.SafetyBackup, p.SafetySkipped = false, "the live database can't be connected to: "+err.Error()
		}
		return nil
	}
	defer postgres.Close(ctx, conn)
	cron, err := r.cronConn(ctx, o)
	if err != nil {
		return err
	}
	if cron != nil {
		defer postgres.Close(ctx, cron)
	}
	p.Outside, err = databases.ReadOutside(ctx, conn, cron)
	if damaged(err) {
		o.Logger.Warn("the live database is damaged and cannot be read", "error", err)
		return nil
	}
	return err
}

// cronConn opens a session with the database that pg_cron keeps its jobs in, if that is
// another one and accepts the connection.
func (r *swapRun) cronConn(ctx context.Context, o *Options) (*pgx.Conn, error) {
	name, err := databases.CronDatabase(ctx, r.admin)
	if err != nil || name == o.Live {
		return nil, err
	}
	conn, err := postgres.Connect(ctx, o.Target.WithDatabase(name))
	if err != nil {
		o.Logger.Debug("cannot read pg_cron's database", "database", name, "error", err)
		return nil, ctx.Err()
	}
	return conn, nil
}

// checkStandbys refuses a server with standbys whose sessions would not be ended: a
// rename does not end them, and they would go on reading the old database.
func (r *swapRun) checkStandbys(ctx context.Context, o *Options) ([]string, error) {
	streams, err := databases.Standbys(ctx, r.admin)
	known := streamNames(streams)
	if err != nil || o.StandbysHandled {
		return known, err
	}
	reached := map[string]pgmedic.Stream{}
	for _, t := range o.Replicas {
		replica, err := databases.ReadReplica(ctx, t.WithDatabase(o.Maintenance), r.server.SystemIdentifier)
		switch {
		case err != nil:
			return known, pgmedic.Errorf(pgmedic.KindOf(err), "start it or correct database.read_replica_url; or end the sessions on it yourself after the swap, and add --standbys-handled",
				"ask the read replica whose sessions are to be ended: %w", err)
		case !replica.Standby:
			o.Logger.Warn("a read replica is not a standby of this server; its sessions are left alone", "replica", address(t))
		case replica.Paused:
			return known, pgmedic.Errorf(pgmedic.KindConflict, "SELECT pg_catalog.pg_wal_replay_resume(); there, or say --standbys-handled",
				"standby %s does not replay: sessions on it would go on reading the old database", address(t))
		case replica.Streams:
			reached[replica.Instance] = replica.Stream
		}
	}
	if left := pgmedic.Unmatched(streams, slices.Collect(maps.Values(reached))); len(left) > 0 {
		return known, pgmedic.Errorf(pgmedic.KindConflict,
			"name each in database.read_replica_url (DB_READ_REPLICA_URL), and its sessions are ended; or end them yourself after the swap, and add --standbys-handled",
			"the server has standbys that sessions read the old database on after a swap: %s", strings.Join(streamNames(left), ", "))
	}
	return known, nil
}

// streamNames names the standbys of a server for people.
func streamNames(streams []pgmedic.Stream) (names []string) {
	for _, s := range streams {
		names = append(names, cmp.Or(s.Name, s.Slot, "one that this role can't see"))
	}
	return names
}

// address names a server for people.
func address(t postgres.Target) string {
	port := t.Value("port")
	if port == "" {
		port = "5432"
	}
	return t.Value("host") + ":" + port
}

// EndedOn is how many sessions were ended on a standby after a swap.
type EndedOn struct {
	Standby string `json:"standby"`
	Ended   int    `json:"sessions_ended"`
	// Problem is why sessions may still read the old database there.
	Problem string `json:"problem,omitempty"`

	err error
}

// endOnStandbys ends the sessions that go on reading the displaced database on
// the replicas. The swap is done by then; what fails is reported.
func (r *swapRun) endOnStandbys(ctx context.Context, o *Options, p Plan) (all []EndedOn) {
	if !p.LiveExists || len(o.Replicas) == 0 {
		return nil
	}
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*patience)
	defer cancel()
	lsn, lsnErr := databases.WALPosition(ctx, r.admin)
	for _, t := range o.Replicas {
		t = t.WithDatabase(o.Maintenance)
		replica, err := databases.ReadReplica(ctx, t, r.server.SystemIdentifier)
		if err == nil && !replica.Standby {
			continue
		}
		e := EndedOn{Standby: address(t)}
		if err = errors.Join(err, lsnErr); err == nil {
			e.Ended, err = databases.EndOnStandby(ctx, t, p.liveOID, lsn, patience)
		}
		if err != nil {
			e.err = databases.StandbyError(e.Standby, p.liveOID, err)
			e.Problem = e.err.Error()
		}
		all = append(all, e)
	}
	return all
}

// Degraded returns what went wrong around a swap that is done, or nil.
func (s *Swapped) Degraded() error {
	if err := restore.IncompleteError(s.Database, s.Checks); err != nil {
		return err
	}
	if err := s.cronError(); err != nil {
		return err
	}
	for _, e := range s.Standbys {
		if e.err != nil {
			return e.err
		}
	}
	return s.Globals.Degraded()
}

// refuseFullDisk refuses a restore that a server on this machine has no room
// for, as far as that can be known: the database is taken to need what it had
// when it was backed up.
func (r *swapRun) refuseFullDisk(ctx context.Context, o *Options) error {
	d := o.Backup.Database
	if o.FreeBytes == nil || len(d.Tablespaces) > 0 || d.Tablespace != "" && d.Tablespace != "pg_default" {
		return nil
	}
	dir, err := r.localFolder(ctx)
	if err != nil || dir == "" {
		return err
	}
	free, err := o.FreeBytes(ctx, dir)
	if err != nil || free >= d.SizeBytes {
		return nil //nolint:nilerr // what can't be known is not asked for
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "free space there, or add --skip-disk-check if the copy will be smaller",
		"the server has %s free in %s, and the database had %s when it was backed up", words.Size(free), dir, words.Size(d.SizeBytes))
}

// localFolder returns the server's data folder if the server is on this machine,
// or empty where that can't be known.
func (r *swapRun) localFolder(ctx context.Context) (string, error) {
	var dir *string
	var local, socket bool
	err := r.admin.QueryRow(ctx, `SELECT (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'),
		coalesce(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true), inet_server_addr() IS NULL`).
		Scan(&dir, &local, &socket)
	if err != nil {
		return "", postgres.Wrap(err, "ask for the data folder")
	}
	if dir == nil || !local { // hidden from this role, or on another machine
		return "", nil
	}
	if _, err := os.Stat(*dir); err != nil {
		return "", nil //nolint:nilerr // a container's, perhaps
	}
	// A forwarded port or a mounted socket may lead to another machine. The
	// cluster's own file tells, where we may read it: it begins with the number.
	head := make([]byte, 8)
	file, err := os.Open(filepath.Join(*dir, "global", "pg_control"))
	if err == nil {
		_, err = file.Read(head)
		_ = file.Close()
	}
	if err != nil {
		return map[bool]string{true: *dir}[socket], nil //nolint:nilerr // likely, but not certain
	}
	if strconv.FormatUint(binary.NativeEndian.Uint64(head), 10) != r.server.SystemIdentifier {
		return "", nil
	}
	return *dir, nil
}

// newSuffix returns eight random hex digits.
func newSuffix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: it would end the program instead
	return hex.EncodeToString(b[:])
}
