package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/replay"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkMoment runs every check on the recovered cluster. One that fails does not prevent
// the others.
func (m *moment) checkMoment(ctx context.Context) error {
	databases, err := m.databases(ctx)
	if err != nil {
		return err
	}
	for _, name := range databases {
		if err := m.checkDatabase(ctx, name); err != nil {
			return err
		}
	}
	m.add("constraints", pgmedic.OutcomeSkipped, "CHECK and EXCLUDE constraints were not tested against the rows: a copy of a cluster's files has them as the server had them")
	m.add("values", pgmedic.OutcomeSkipped, "not compared: nothing records the rows of each moment")
	if err := m.step("assertions", func() error { return m.assertMoment(ctx, databases) }); err != nil {
		return err
	}
	m.addDurability()
	// Last, on files that nothing writes to.
	return m.step("pages", func() error {
		m.server.Halt(ctx)
		return m.pages(ctx)
	})
}

// databases are those of the cluster that can be connected to. It opens those that refuse
// connections, such as template0, and names those that it can't open.
func (m *moment) databases(ctx context.Context) (names []string, err error) {
	conn, err := postgres.Connect(ctx, m.place.target.WithDatabase(replay.ConnectDatabase))
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	// What was dropped when the server stopped can be dropped only (datconnlimit -2).
	rows, err := conn.Query(ctx, "SELECT datname::text, datallowconn, datconnlimit = -2 FROM pg_catalog.pg_database ORDER BY oid")
	if err != nil {
		return nil, postgres.Wrap(err, "list the databases")
	}
	var name string
	var open, dropped bool
	var closed, unusable []string
	_, err = pgx.ForEachRow(rows, []any{&name, &open, &dropped}, func() error {
		switch {
		case dropped:
			unusable = append(unusable, sqltext.QuoteIdent(name))
			return nil
		case !open:
			closed = append(closed, name)
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, postgres.Wrap(err, "list the databases")
	}
	for _, name := range closed {
		if _, err := conn.Exec(ctx, "ALTER DATABASE "+sqltext.QuoteIdent(name)+" ALLOW_CONNECTIONS true"); err != nil {
			return nil, postgres.Wrap(err, "open database "+sqltext.QuoteIdent(name)+" of the copy")
		}
	}
	if len(unusable) > 0 {
		m.add("databases", pgmedic.OutcomeWarn, "not checked, because they were being dropped: "+words.FirstFew(unusable))
	}
	return names, nil
}

// checkDatabase checks one database, and names its checks by it.
func (m *moment) checkDatabase(ctx context.Context, name string) error {
	first := len(m.receipt.Checks)
	indexes, heaps := m.receipt.Counted.Indexes, m.receipt.Counted.Heaps
	m.place.database = name
	err := m.step("amcheck", func() error {
		if err := m.rollBackPrepared(ctx); err != nil {
			return err
		}
		if err := m.collations(ctx); err != nil {
			return err
		}
		return m.amcheck(ctx)
	})
	if err == nil {
		err = m.step("visibility", func() error { return m.visibility(ctx) })
	}
	if err == nil {
		err = m.step("foreign keys", func() error { return m.foreignKeys(ctx) })
	}
	m.receipt.Counted.Indexes += indexes
	m.receipt.Counted.Heaps += heaps
	for i := range m.receipt.Checks[first:] {
		m.receipt.Checks[first+i].Name += " of " + sqltext.QuoteIdent(name)
	}
	return err
}

// rollBackPrepared rolls back the transactions of the database that were prepared, and not
// decided at the moment: their locks would keep the checks waiting for ever.
func (m *moment) rollBackPrepared(ctx context.Context) error {
	conn, err := postgres.Connect(ctx, m.place.copied())
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	n, err := replay.RollBackPrepared(ctx, conn)
	if err != nil {
		return err
	}
	if n > 0 {
		m.add("prepared transactions", pgmedic.OutcomeOK, pgmedic.Count(n)+" were neither committed nor rolled back at this moment; in the copy they were rolled back")
	}
	return nil
}

// collations compares the versions of the collations that the database was sorted by with
// those of this machine's libraries.
func (m *moment) collations(ctx context.Context) error {
	conn, err := postgres.Connect(ctx, m.place.copied())
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	sql := `SELECT pg_catalog.count(*) FILTER (WHERE c.collversion <> pg_catalog.pg_collation_actual_version(c.oid)), false, ''
FROM pg_catalog.pg_collation AS c WHERE c.collversion IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attcollation = c.oid)`
	if m.Backup.Server.Major() >= 15 {
		sql = strings.Replace(sql, "false, ''", `(SELECT d.datcollversion <> pg_catalog.pg_database_collation_actual_version(d.oid)
	FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()),
(SELECT pg_catalog.concat(d.datcollversion, ', and here ', pg_catalog.pg_database_collation_actual_version(d.oid)) FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())`, 1)
	}
	m.sortsOtherwise = false
	var others int64
	var own *bool
	var versions string
	if err := conn.QueryRow(ctx, sql).Scan(&others, &own, &versions); err != nil {
		return postgres.Wrap(err, "read the versions of the collations")
	}
	const hint = "an index on text can be right on the source and wrong here; drill on a host with the same C library and ICU"
	switch {
	case own != nil && *own:
		m.sortsOtherwise = true
		m.receipt.Checks = append(m.receipt.Checks, pgmedic.Check{Name: "collations", Outcome: pgmedic.OutcomeWarn, Hint: hint, Detail: "the source sorted text by version " + versions})
	case others > 0:
		m.sortsOtherwise = true
		m.receipt.Checks = append(m.receipt.Checks, pgmedic.Check{Name: "collations", Outcome: pgmedic.OutcomeWarn, Hint: hint, Detail: pgmedic.Count(others) + " that columns use have another version here"})
	case m.Backup.Server.Major() < 15:
		m.add("collations", pgmedic.OutcomeSkipped, "PostgreSQL records that of a database from 15 on")
	default:
		m.add("collations", pgmedic.OutcomeOK, "those with a version have the same one here")
	}
	return nil
}

// assertMoment asks the assertions of the configured database, as far as it is there.
func (m *moment) assertMoment(ctx context.Context, databases []string) error {
	if len(m.Assertions) == 0 {
		return m.assert(ctx)
	}
	for _, name := range databases {
		if name != m.asked.Database {
			continue
		}
		m.place.database = name
		if err := m.cutOff(ctx); err != nil {
			return err
		}
		return m.assert(ctx)
	}
	m.receipt.Checks = append(m.receipt.Checks, pgmedic.Check{
		Name: "assertions", Outcome: pgmedic.OutcomeWarn, Hint: "name the database with --database, or in database.name",
		Detail: "not asked: at this moment the cluster has no database of the configured name",
	})
	return nil
}

// maxPagesNamed is how many wrong pages a check names.
const maxPagesNamed = 1000

// pages reads every page of every relation, as it is on the disk.
func (m *moment) pages(ctx context.Context) error {
	p := m.Backup.Physical
	s := pageScan{files: m.server.Files(), segment: p.SegmentBytes, options: pgdata.PageOptions{
		BlockBytes: int(p.BlockBytes), Checksums: p.Checksums, Start: math.MaxUint64, // none may be torn
	}}
	err := s.folder(ctx, "data", "")
	if err == nil {
		err = s.folder(ctx, "tablespaces", "pg_tblspc/")
	}
	if err != nil {
		return fmt.Errorf("read the pages of the copy: %w", err)
	}
	m.record.PagesChecked = s.pages
	how := "their checksums"
	if !p.Checksums {
		how = "their headers only, because the cluster has no checksums"
	}
	check := pgmedic.Check{Name: "pages", Outcome: pgmedic.OutcomeOK, Detail: pgmedic.Count(s.pages) + " pages are right, by " + how}
	if s.wrong > 0 {
		check.Outcome, check.Items = pgmedic.OutcomeFailed, s.named
		check.Detail = fmt.Sprintf("%s of %s pages are wrong, by %s", pgmedic.Count(s.wrong), pgmedic.Count(s.pages), how)
		check.Hint = "recover to the same moment from an older base backup; `pgmedic show` says whether the pages were wrong on the server already"
	}
	m.receipt.Checks = append(m.receipt.Checks, check)
	return nil
}

// pageScan reads the pages in a folder.
type pageScan struct {
	files   fs.FS
	segment int64
	options pgdata.PageOptions

	pages, wrong int64
	named        []string
}

// folder reads all relations below a folder, whose paths within the data folder begin with
// prefix.
func (s *pageScan) folder(ctx context.Context, dir, prefix string) error {
	return fs.WalkDir(s.files, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		within := prefix + strings.TrimPrefix(strings.TrimPrefix(name, dir), "/")
		if !entry.Type().IsRegular() || !pgdata.IsRelation(within) {
			return nil
		}
		return s.file(name, within)
	})
}

func (s *pageScan) file(name, within string) (err error) {
	f, err := s.files.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, s.options.BlockBytes)
	block := uint32(int64(pgdata.SegmentNumber(within)) * (s.segment / int64(len(page))))
	for ; ; block++ {
		switch _, err := io.ReadFull(f, page); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			s.note(within, block, "is cut off")
			return nil
		case err != nil:
			return err
		}
		s.pages++
		if fault := pgdata.CheckPage(page, block, s.options); fault != pgdata.PageRight {
			s.note(within, block, map[pgdata.PageFault]string{pgdata.PageChecksum: "has a wrong checksum", pgdata.PageHeader: "has a wrong header"}[fault])
		}
	}
}

func (s *pageScan) note(within string, block uint32, what string) {
	if s.wrong++; len(s.named) < maxPagesNamed {
		s.named = append(s.named, fmt.Sprintf("block %d of %s %s", block, path.Clean(within), what))
	}
}
