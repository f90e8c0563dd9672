package history_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/history"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const node = "db.internal:5432"

// reading is of a database with some tables and statements.
func aReading(at time.Time) *reading.Reading {
	r := &reading.Reading{
		Format: reading.ReadingFormat, TakenAt: at, Database: "clinic", Skipped: []reading.Skipped{},
		Server: reading.Server{Version: "15.20", VersionNum: 150020, Role: reading.RolePrimary, SystemIdentifier: "7"},
		Size:   &reading.Size{DatabaseBytes: at.Unix()}, Transactions: &reading.Transactions{Commits: at.Unix()},
		Connections: &reading.Connections{Used: 10, MaxConnections: 100, ByState: []reading.StateCount{{State: "active", Connections: 3}}},
		Cache:       &reading.Cache{LifetimeHits: 999_000, LifetimeReads: 1000},
		Tables:      &reading.Tables{}, Statements: &reading.Statements{Total: 60, ExecSeconds: float64(at.Unix())},
		Before: &reading.Reading{Database: "of the interval"},
	}
	for i := range 40 {
		r.Tables.Items = append(r.Tables.Items, reading.Table{
			Schema: "public", Name: fmt.Sprintf("table_%d", i), Exact: true, TotalBytes: int64(i) << 20,
			Unindexed: []string{"a", "b", "c"}, Bloat: &reading.Bloat{},
		})
	}
	for i := range 60 {
		r.Statements.Items = append(r.Statements.Items, reading.Statement{
			QueryID: strconv.Itoa(-i), Database: "clinic", User: "app", Query: "SELECT " + strings.Repeat("c, ", 200) + fmt.Sprint("$", i),
			StatementCounts: reading.StatementCounts{Calls: int64(i), ExecSeconds: float64(i)},
		})
	}
	return r
}

func open(t testing.TB, opts history.Options) *history.History {
	t.Helper()
	h, err := history.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func add(t testing.TB, h *history.History, readings ...*reading.Reading) {
	t.Helper()
	for _, r := range readings {
		if err := h.Add(t.Context(), node, r); err != nil {
			t.Fatal(err)
		}
	}
}

// earlier returns all that is kept of the clinic.
func earlier(t testing.TB, h *history.History) []*reading.Reading {
	t.Helper()
	all, err := h.Earlier(t.Context(), history.Key{Node: node, SystemIdentifier: "7", Database: "clinic"}, time.Time{}, noon.AddDate(9, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// raw opens a file as any program would.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", source(path))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// source names a file for the driver.
func source(path string) string {
	return "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

func file(t testing.TB) string {
	return filepath.Join(t.TempDir(), "state?#%20", "pgmedic", "history.sqlite")
}

func TestAddAndEarlier(t *testing.T) {
	path := file(t)
	h := open(t, history.Options{Path: path, Now: func() time.Time { return noon }})
	first, second := aReading(noon.Add(-2*time.Hour)), aReading(noon.Add(-time.Hour))
	other := aReading(noon.Add(-time.Hour))
	other.Database = "billing"
	second.Databases = []*reading.Reading{other}
	add(t, h, first, second, aReading(noon))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}

	h = open(t, history.Options{Path: path, Now: func() time.Time { return noon }})
	key := history.KeyOf(node, first)
	got, err := h.Earlier(t.Context(), key, noon.Add(-2*time.Hour), noon)
	if err != nil || len(got) != 2 || !got[0].TakenAt.Equal(first.TakenAt) || !got[1].TakenAt.Equal(second.TakenAt) {
		t.Fatal(got, err)
	}
	r := got[1]
	if r.Size.DatabaseBytes != second.Size.DatabaseBytes || r.Transactions.Commits != second.Transactions.Commits ||
		r.Connections.ByState[0].Connections != 3 || r.Server.SystemIdentifier != "7" || r.Before != nil || r.Databases != nil {
		t.Errorf("%+v", r)
	}
	if len(r.Tables.Items) != 40 || r.Tables.Items[39].TotalBytes != 39<<20 || !r.Tables.Items[39].Exact ||
		len(r.Statements.Items) != 60 || r.Statements.Items[59].Calls != 59 || r.Statements.Items[59].QueryID != "-59" {
		t.Errorf("details: %+v %+v", r.Tables, r.Statements)
	}
	for name, k := range map[string]history.Key{
		"another node":     {Node: "replica.internal:5432", SystemIdentifier: "7", Database: "clinic"},
		"another server":   {Node: node, SystemIdentifier: "8", Database: "clinic"},
		"another database": {Node: node, SystemIdentifier: "7", Database: "none"},
	} {
		if got, err := h.Earlier(t.Context(), k, time.Time{}, noon); len(got) != 0 || err != nil {
			t.Errorf("%s: %d readings, %v", name, len(got), err)
		}
	}
	// Of a reading from a file nobody knows the node: one is enough.
	key.Node = ""
	if got, err := h.Earlier(t.Context(), key, time.Time{}, noon); len(got) != 2 || err != nil {
		t.Error(len(got), err)
	}
	if err := h.Add(t.Context(), "copy.internal:5432", aReading(noon)); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Earlier(t.Context(), key, time.Time{}, noon); len(got) != 0 || err != nil {
		t.Error("of two nodes, one was guessed", len(got), err)
	}
	key = history.KeyOf(node, other)
	if got, err := h.Earlier(t.Context(), key, time.Time{}, noon); len(got) != 1 || err != nil {
		t.Error("the other database", len(got), err)
	}
	if n := h.Notices(); n != nil {
		t.Error(n)
	}
}

func TestFileIsPrivate(t *testing.T) {
	path := file(t)
	h := open(t, history.Options{Path: path})
	add(t, h, aReading(noon))
	for _, name := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Error(name, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Error("more than one file", entries, err)
	}
}

func TestLiteralsAreNeverKept(t *testing.T) {
	h := open(t, history.Options{Path: file(t)})
	r := aReading(noon)
	r.Literals = true
	if err := h.Add(t.Context(), node, r); err == nil {
		t.Error("a reading with literals was kept")
	}
	r = aReading(noon)
	r.Server.SystemIdentifier = ""
	if err := h.Add(t.Context(), node, r); err == nil {
		t.Error("a reading of a server that nobody knows was kept")
	}
	if n := len(earlier(t, h)); n != 0 {
		t.Error(n)
	}
}

// TestLongTextsAreCut keeps a history of large statements small.
func TestLongTextsAreCut(t *testing.T) {
	path := file(t)
	h := open(t, history.Options{Path: path})
	r := aReading(noon)
	r.Statements.Items[0].Query = strings.Repeat("é", 100_000) + "the end"
	add(t, h, r)
	if r.Statements.Items[0].Query[len(r.Statements.Items[0].Query)-7:] != "the end" {
		t.Error("the caller's reading was changed")
	}
	for _, text := range contents(t, path) {
		if strings.Contains(text, "the end") || strings.Contains(text, "of the interval") {
			t.Error("kept in full")
		}
	}
}

// contents returns every text in a history, decompressed.
func contents(t testing.TB, path string) (texts []string) {
	t.Helper()
	db := raw(t, path)
	defer func() { _ = db.Close() }()
	unzip, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unzip.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT reading FROM whole UNION ALL SELECT detail FROM whole UNION ALL SELECT outline FROM reading")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var packed []byte
		if err := rows.Scan(&packed); err != nil {
			t.Fatal(err)
		}
		text, err := unzip.DecodeAll(packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if err := rows.Err(); err != nil || len(texts) == 0 {
		t.Fatal(len(texts), err)
	}
	return texts
}

// TestNewest finds the newest Reading before a moment, with what an index's age
// rests on.
func TestNewest(t *testing.T) {
	h := open(t, history.Options{Path: file(t), Now: func() time.Time { return noon }})
	key := history.Key{Node: node, SystemIdentifier: "7", Database: "clinic"}
	if r, err := h.Newest(t.Context(), key, noon); r != nil || err != nil {
		t.Fatal(r, err)
	}
	for days := range 12 {
		r := aReading(noon.AddDate(0, 0, -days))
		r.Indexes = &reading.Indexes{Unused: []reading.Index{{OID: uint32(days), Name: "spare"}}}
		add(t, h, r)
	}
	before := noon.AddDate(0, 0, -7)
	r, err := h.Newest(t.Context(), key, before)
	if err != nil || r == nil || !r.TakenAt.Equal(noon.AddDate(0, 0, -8)) || len(r.Indexes.Unused) != 1 || r.Indexes.Unused[0].OID != 8 {
		t.Errorf("%+v %v", r, err)
	}
	if r, err := h.Newest(t.Context(), key, noon.AddDate(0, 0, -11)); r != nil || err != nil {
		t.Errorf("before the first: %+v %v", r, err)
	}
}

// TestAWrongClockLosesNothing has one report run while the clock says 1970, as it
// does on a machine that has not heard of the time yet.
func TestAWrongClockLosesNothing(t *testing.T) {
	now := noon
	h := open(t, history.Options{Path: file(t), Now: func() time.Time { return now }})
	for hours := range 50 {
		add(t, h, aReading(noon.Add(time.Duration(hours-50)*time.Hour)))
	}
	now = time.Unix(60, 0).UTC()
	add(t, h, aReading(now))
	now = noon
	add(t, h, aReading(noon))
	if n := len(earlier(t, h)); n != 51 {
		t.Errorf("%d of 50 readings, and one of 1970, are left", n)
	}
}

func TestBrokenFilesAreKeptAside(t *testing.T) {
	made := func(t *testing.T) []byte {
		path := file(t)
		h := open(t, history.Options{Path: path, Now: func() time.Time { return noon }})
		for i := range 50 {
			add(t, h, aReading(noon.Add(time.Duration(i-100)*time.Minute)))
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) < 100_000 {
			t.Fatal(len(data), err)
		}
		return data
	}
	sqlite := func(statements string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			db := raw(t, path)
			if _, err := db.ExecContext(t.Context(), statements); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	bytesAre := func(change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, change(data), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	data := made(t)
	for name, damage := range map[string]func(*testing.T, string){
		"text":              bytesAre(func([]byte) []byte { return []byte(strings.Repeat("no database\n", 1000)) }),
		"short":             bytesAre(func(b []byte) []byte { return b[:50] }),
		"truncated":         bytesAre(func(b []byte) []byte { return b[:len(b)/2] }),
		"pages overwritten": bytesAre(func(b []byte) []byte { copy(b[4096:], bytes.Repeat([]byte{0xa5}, len(b)-4096)); return b }),
		"without a table":   sqlite("DROP TABLE whole"),
		"other columns":     sqlite("ALTER TABLE reading RENAME COLUMN outline TO o"),
		"version 0":         sqlite("PRAGMA user_version = 0"),
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, bytes.Clone(data), 0o600); err != nil {
				t.Fatal(err)
			}
			damage(t, path)
			was, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// For reading alone it is an error, or what can be read of it.
			if h, err := history.Open(t.Context(), history.Options{Path: path, ReadOnly: true}); err == nil {
				_ = h.Close()
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(was, now) {
				t.Fatal("reading changed the file", err)
			}
			h := open(t, history.Options{Path: path, Now: func() time.Time { return noon }})
			earlier(t, h) // it may show here, or in what follows
			add(t, h, aReading(noon))
			if got := earlier(t, h); len(got) != 1 || !got[0].TakenAt.Equal(noon) {
				t.Errorf("%d readings in the new file", len(got))
			}
			if n := h.Notices(); len(n) != 1 || !strings.Contains(n[0], "kept aside") {
				t.Error(n)
			}
			kept, err := filepath.Glob(path + ".broken-*")
			if err != nil || len(kept) != 1 {
				t.Fatal(kept, err)
			}
			if now, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(was, now) {
				t.Error("what was kept aside is not what there was", err)
			}
		})
	}
}

func TestFilesOfOthersAreLeftAlone(t *testing.T) {
	for name, test := range map[string]struct{ statements, want string }{
		"newer":           {"PRAGMA application_id = 0x70676d68; PRAGMA user_version = 99; CREATE TABLE t (x)", "newer version"},
		"another program": {"CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')", "another program"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.sqlite")
			db := raw(t, path)
			if _, err := db.ExecContext(t.Context(), test.statements); err != nil {
				t.Fatal(err)
			}
			_ = db.Close()
			was, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = history.Open(t.Context(), history.Options{Path: path})
			if err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), test.want) || pgmedic.HintOf(err) == "" {
				t.Error(err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(was, now) {
				t.Error("the file was changed", err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Error(entries, err)
			}
		})
	}
}

// TestUnreadableReadings flips a bit in what one reading is packed into: the
// others stay.
func TestUnreadableReadings(t *testing.T) {
	path := file(t)
	h := open(t, history.Options{Path: path, Now: func() time.Time { return noon }})
	add(t, h, aReading(noon.Add(-3*time.Hour)), aReading(noon.Add(-2*time.Hour)), aReading(noon.Add(-time.Hour)))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	const flip = "UPDATE reading SET outline = CAST(substr(outline, 1, 40) || x'00' || substr(outline, 42) AS BLOB) WHERE id = 2"
	if _, err := db.ExecContext(t.Context(), flip); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	h = open(t, history.Options{Path: path, Now: func() time.Time { return noon }})
	if got := earlier(t, h); len(got) != 2 {
		t.Errorf("%d readings", len(got))
	}
	if n := h.Notices(); len(n) != 1 || !strings.HasSuffix(n[0], "left out: 1") {
		t.Error(n)
	}
}

func TestFileThatCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := history.Open(t.Context(), history.Options{Path: filepath.Join(blocked, "history.sqlite")})
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || pgmedic.HintOf(err) == "" {
		t.Error(err)
	}
	if _, err = history.Open(t.Context(), history.Options{Path: dir}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Error("a folder", err)
	}
	_, err = history.Open(t.Context(), history.Options{Path: filepath.Join(dir, "none", "history.sqlite"), ReadOnly: true})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("reading made a folder")
	}
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		return // nothing is read-only for root
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err = history.Open(t.Context(), history.Options{Path: filepath.Join(dir, "h", "history.sqlite")})
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Error(err)
	}
}

// TestFullDisk bounds the file as a full disk would.
func TestFullDisk(t *testing.T) {
	path := file(t)
	h := open(t, history.Options{Path: path, Now: func() time.Time { return noon }})
	add(t, h, aReading(noon.Add(-time.Hour)))
	if err := history.Limit(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	err := h.Add(t.Context(), node, aReading(noon))
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "the disk is full") {
		t.Error(err)
	}
	if got := earlier(t, h); len(got) != 1 {
		t.Errorf("%d readings instead of what was there", len(got))
	}
}

func TestSizeIsBounded(t *testing.T) {
	path := file(t)
	now := noon
	h := open(t, history.Options{Path: path, Now: func() time.Time { return now }, MaxBytes: 400 << 10})
	for range 300 {
		now = now.Add(5 * time.Minute)
		add(t, h, aReading(now))
	}
	got := earlier(t, h)
	info, err := os.Stat(path)
	if err != nil || info.Size() > 600<<10 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	if n := len(got); n < 50 || n > 300 || !got[n-1].TakenAt.Equal(now) || got[n-1].Tables == nil {
		t.Errorf("%d readings", n)
	}
}
