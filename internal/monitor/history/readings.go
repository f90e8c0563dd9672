package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// textMost is how much of a statement's text is kept.
const textMost = 1000

// Earlier returns the Readings of a key that were taken from since until before
// a moment, oldest first. They are Outlines; those of which trends compare more
// have the sizes of tables and the counters of statements, too.
func (h *History) Earlier(ctx context.Context, key Key, since, before time.Time) ([]*reading.Reading, error) {
	var all []*reading.Reading
	err := h.mended(ctx, "read", func() error {
		var err error
		all, err = h.earlier(ctx, key, since, before)
		return err
	})
	return all, err
}

func (h *History) earlier(ctx context.Context, key Key, since, before time.Time) ([]*reading.Reading, error) {
	// Of one moment, whatever another report adds and thins meanwhile; and a
	// reader does not block other readers.
	tx, err := h.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	series, err := findSeries(ctx, tx, key)
	if err != nil || series == 0 {
		return nil, err
	}
	wanted, err := outlinesWanted(ctx, tx, series, since, before)
	if err != nil {
		return nil, err
	}
	all, ids, broken, err := h.outlines(ctx, tx, wanted)
	if err != nil {
		return nil, err
	}
	n, err := h.fill(ctx, tx, before, all, ids)
	if err != nil {
		return nil, err
	}
	if broken += n; broken > 0 {
		h.notices = append(h.notices, fmt.Sprintf("readings in %s that can't be read and are left out: %d", h.opts.Path, broken))
	}
	return all, nil
}

// Newest returns the newest Reading of a key that was taken before a moment, an
// Outline with details; nil without one.
func (h *History) Newest(ctx context.Context, key Key, before time.Time) (newest *reading.Reading, err error) {
	var since time.Time
	err = h.mended(ctx, "read", func() error {
		tx, err := h.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		series, err := findSeries(ctx, tx, key)
		if err != nil || series == 0 {
			return err
		}
		var taken sql.NullInt64
		err = tx.QueryRowContext(ctx, "SELECT max(taken_at) FROM reading WHERE series = ? AND taken_at < ?", series, before.UnixMicro()).Scan(&taken)
		if taken.Valid {
			since = time.UnixMicro(taken.Int64)
		}
		return err
	})
	if err != nil || since.IsZero() {
		return nil, err
	}
	all, err := h.Earlier(ctx, key, since, since.Add(time.Microsecond))
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[len(all)-1], nil
}

// outlinesWanted returns the ids of those of a series' Readings from since until
// before a moment that are worth reading, oldest first.
func outlinesWanted(ctx context.Context, tx *sql.Tx, series int64, since, before time.Time) (wanted []int64, err error) {
	ids, moments, err := moments(ctx, tx, "WHERE series = ? AND taken_at >= ? AND taken_at < ?", series, since.UnixMicro(), before.UnixMicro())
	if err != nil {
		return nil, err
	}
	for _, moment := range judge.OutlinesWanted(before, moments) {
		if i, ok := slices.BinarySearchFunc(moments, moment, time.Time.Compare); ok {
			wanted = append(wanted, ids[i])
		}
	}
	return wanted, nil
}

// moments returns the ids of Readings and when they were taken, oldest first.
func moments(ctx context.Context, tx *sql.Tx, where string, args ...any) (ids []int64, moments []time.Time, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT id, taken_at FROM reading "+where+" ORDER BY taken_at", args...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, taken int64
		if err := rows.Scan(&id, &taken); err != nil {
			return nil, nil, err
		}
		ids, moments = append(ids, id), append(moments, time.UnixMicro(taken))
	}
	return ids, moments, rows.Err()
}

// outlines reads the Outlines of some ids. Those that can't be read are left out
// and counted.
func (h *History) outlines(ctx context.Context, tx *sql.Tx, wanted []int64) (all []*reading.Reading, ids []int64, broken int, err error) {
	outline, err := tx.PrepareContext(ctx, "SELECT outline FROM reading WHERE id = ?")
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { _ = outline.Close() }()
	packed := make([][]byte, len(wanted))
	for i, id := range wanted {
		if err := outline.QueryRowContext(ctx, id).Scan(&packed[i]); err != nil {
			return nil, nil, 0, err
		}
	}
	for i, r := range h.unpackOutlines(packed) {
		if r == nil {
			broken++
			continue
		}
		all, ids = append(all, r), append(ids, wanted[i])
	}
	return all, ids, broken, nil
}

// unpackOutlines unpacks Outlines on all cores, for that is most of what reading
// a history takes. Those that can't be read are nil.
func (h *History) unpackOutlines(packed [][]byte) []*reading.Reading {
	all := make([]*reading.Reading, len(packed))
	var workers sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	for first := range cores {
		workers.Go(func() {
			for i := first; i < len(packed); i += cores {
				r := new(reading.Reading)
				if h.unpack(packed[i], r) == nil && r.Format >= 1 && r.Format <= reading.ReadingFormat {
					all[i] = r
				}
			}
		})
	}
	workers.Wait()
	return all
}

// fill adds details to the Readings that need them.
func (h *History) fill(ctx context.Context, tx *sql.Tx, now time.Time, all []*reading.Reading, ids []int64) (broken int, err error) {
	moments := make([]time.Time, len(all))
	for i, r := range all {
		moments[i] = r.TakenAt
	}
	whole, err := tx.PrepareContext(ctx, "SELECT detail FROM whole WHERE id = ?")
	if err != nil {
		return 0, err
	}
	defer func() { _ = whole.Close() }()
	for _, moment := range judge.DetailsWanted(now, moments) {
		i, ok := slices.BinarySearchFunc(moments, moment, time.Time.Compare)
		if !ok {
			continue
		}
		var packed []byte
		err := whole.QueryRowContext(ctx, ids[i]).Scan(&packed)
		if errors.Is(err, sql.ErrNoRows) {
			continue // the oldest go first where there is no room
		}
		if err != nil {
			return broken, err
		}
		var d reading.Detailed
		if h.unpack(packed, &d) != nil {
			broken++
			continue
		}
		all[i].Fill(d)
	}
	return broken, nil
}

// findSeries returns the series of a key, zero where there is none.
func findSeries(ctx context.Context, tx *sql.Tx, key Key) (id int64, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT id FROM series WHERE system = ? AND database = ? AND (node = ? OR ? = '')",
		key.SystemIdentifier, key.Database, key.Node, key.Node)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	found := 0
	for rows.Next() {
		found++
		if err := rows.Scan(&id); err != nil {
			return 0, err
		}
	}
	if found != 1 {
		id = 0
	}
	return id, errors.Join(rows.Err(), rows.Close())
}

// Add keeps a Reading, and the looks at other databases in it, each under its
// own name, and thins what is older: all of it or nothing. A Reading with
// literals is refused, as is one whose server is not known.
func (h *History) Add(ctx context.Context, node string, r *reading.Reading) error {
	switch {
	case h.opts.ReadOnly:
		return pgmedic.Errorf(pgmedic.KindUsage, "", "the history %s is open for reading", h.opts.Path)
	case r.Literals:
		return pgmedic.Errorf(pgmedic.KindUsage, "", "a reading with literals is not kept")
	case r.Server.SystemIdentifier == "":
		return pgmedic.Errorf(pgmedic.KindUsage, "", "the server's system identifier is not known, so the reading is not kept")
	}
	return h.mended(ctx, "write", func() error {
		return h.transact(ctx, func(tx *sql.Tx) error {
			for _, one := range append([]*reading.Reading{r}, r.Databases...) {
				if err := h.add(ctx, tx, KeyOf(node, one), one); err != nil {
					return err
				}
			}
			return h.makeRoom(ctx, tx)
		})
	})
}

// add keeps one Reading and thins its series.
func (h *History) add(ctx context.Context, tx *sql.Tx, key Key, r *reading.Reading) error {
	outline, err := h.pack(r.Outline())
	if err != nil {
		return err
	}
	kept := toKeep(r)
	got, err := h.pack(kept)
	if err != nil {
		return err
	}
	detail, err := h.packDetail(kept)
	if err != nil {
		return err
	}
	var series, id int64
	err = tx.QueryRowContext(ctx, `INSERT INTO series (node, system, database) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET node = excluded.node RETURNING id`, key.Node, key.SystemIdentifier, key.Database).Scan(&series)
	if err != nil {
		return err
	}
	err = tx.QueryRowContext(ctx, `INSERT INTO reading (series, taken_at, outline) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET outline = excluded.outline RETURNING id`, series, r.TakenAt.UnixMicro(), outline).Scan(&id)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO whole (id, detail, reading) VALUES (?, ?, ?)", id, detail, got); err != nil {
		return err
	}
	return h.thin(ctx, tx, series)
}

// thin thins one series, and the one whose turn it is: nobody may add to that
// any more.
func (h *History) thin(ctx context.Context, tx *sql.Tx, series int64) error {
	var oldest int64
	if err := tx.QueryRowContext(ctx, "SELECT id FROM series ORDER BY thinned_at, id LIMIT 1").Scan(&oldest); err != nil {
		return err
	}
	for _, s := range slices.Compact([]int64{series, oldest}) {
		if err := h.thinSeries(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}

func (h *History) thinSeries(ctx context.Context, tx *sql.Tx, series int64) error {
	ids, moments, err := moments(ctx, tx, "WHERE series = ?", series)
	if err != nil {
		return err
	}
	now := h.opts.Now()
	for _, i := range Thin(now, moments) {
		for _, statement := range []string{"DELETE FROM whole WHERE id = ?", "DELETE FROM reading WHERE id = ?"} {
			if _, err := tx.ExecContext(ctx, statement, ids[i]); err != nil {
				return err
			}
		}
	}
	_, err = tx.ExecContext(ctx, "UPDATE series SET thinned_at = ? WHERE id = ?", now.UnixMicro(), series)
	return err
}

// makeRoom drops what is oldest until the file's contents are within bounds:
// whole Readings first, of which the Outlines stay, then those.
func (h *History) makeRoom(ctx context.Context, tx *sql.Tx) error {
	for {
		var used int64
		err := tx.QueryRowContext(ctx, `SELECT (p.page_count - f.freelist_count) * s.page_size
			FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s`).Scan(&used)
		if err != nil || used <= h.opts.MaxBytes {
			return err
		}
		var gone int64
		for _, table := range []string{"whole", "reading"} {
			result, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id IN (SELECT id FROM "+table+" ORDER BY id LIMIT 50)")
			if err != nil {
				return err
			}
			if gone, err = result.RowsAffected(); err != nil {
				return err
			}
			if gone > 0 {
				break
			}
		}
		if gone == 0 {
			return nil
		}
	}
}

// toKeep is a Reading without what is kept elsewhere or needed by its own report
// only, and with long texts cut.
func toKeep(r *reading.Reading) *reading.Reading {
	kept := *r
	kept.Before, kept.Databases = nil, nil
	if r.Statements != nil {
		statements := *r.Statements
		statements.Items = slices.Clone(statements.Items)
		for i := range statements.Items {
			s := &statements.Items[i]
			s.Recent = nil
			s.Query = shortened(s.Query)
		}
		kept.Statements = &statements
	}
	return &kept
}

// shortened cuts a text between characters.
func shortened(s string) string {
	for i := range s {
		if i >= textMost {
			return s[:i] + "…"
		}
	}
	return s
}

func (h *History) pack(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("pack a reading: %w", err)
	}
	return h.zip.EncodeAll(text, nil), nil
}

// packDetail packs what of a Reading is compared at some moments.
func (h *History) packDetail(r *reading.Reading) ([]byte, error) {
	// By the names in JSON, so that the two can't part.
	text, err := json.Marshal(struct {
		Tables     *reading.Tables     `json:"tables"`
		Indexes    *reading.Indexes    `json:"indexes"`
		Statements *reading.Statements `json:"statements"`
	}{r.Tables, r.Indexes, r.Statements})
	if err != nil {
		return nil, fmt.Errorf("pack a reading: %w", err)
	}
	var d reading.Detailed
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("pack a reading: %w", err)
	}
	return h.pack(d)
}

func (h *History) unpack(packed []byte, v any) error {
	text, err := h.unzip.DecodeAll(packed, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}
