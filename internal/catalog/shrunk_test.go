package catalog_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/shrunk"
)

// holding gives a backup so many tables that have so many rows together.
func holding(b *pgmedic.Backup, tables int, rows int64) *pgmedic.Backup {
	for i := range tables {
		t := pgmedic.Table{Schema: "public", Name: "t" + strconv.Itoa(i)}
		if i == 0 {
			t.Rows = rows
		}
		b.Tables = append(b.Tables, t)
	}
	return b
}

func TestShrunk(t *testing.T) {
	for name, test := range map[string]struct {
		tables, tablesBefore int
		rows, rowsBefore     int64
		want                 string
	}{
		"half the rows":              {4, 4, 500, 1000, "50 % fewer rows (500 instead of 1,000)"},
		"less than half":             {4, 4, 501, 1000, ""},
		"few rows":                   {4, 4, 0, 999, ""},
		"more rows":                  {4, 4, 5000, 1000, ""},
		"a third of the tables":      {2, 3, 10, 10, "2 tables instead of 3"},
		"less than a third":          {3, 4, 10, 10, ""},
		"few tables":                 {1, 2, 10, 10, ""},
		"more tables":                {9, 3, 10, 10, ""},
		"both":                       {6, 18, 37246, 97240, "62 % fewer rows (37,246 instead of 97,240), 6 tables instead of 18"},
		"everything":                 {0, 3, 0, 1000, "100 % fewer rows (0 instead of 1,000), 0 tables instead of 3"},
		"nothing, and nothing there": {0, 0, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			before := f.commit(t, holding(backup(1), test.tablesBefore, test.rowsBefore))
			// None of these is the one before.
			safety, partial, other, elsewhere := backup(2), backup(3), backup(4), backup(5)
			safety.Purpose, partial.Scope = pgmedic.PurposeSafety, &pgmedic.Scope{Tables: []string{"x"}}
			other.Database.Name, elsewhere.Server.Name = "other", "elsewhere"
			for _, b := range []*pgmedic.Backup{safety, partial, other, elsewhere} {
				f.commit(t, holding(b, 30, 1_000_000))
			}
			now := f.commit(t, holding(backup(6), test.tables, test.rows))
			after := f.commit(t, holding(backup(7), test.tables, test.rows)) // nor one that came later

			check := func(how string, got *shrunk.Fall) {
				t.Helper()
				switch {
				case got == nil && test.want != "":
					t.Errorf("%s: not called shrunk", how)
				case got != nil && (got.String() != test.want || got.Before != before.ID):
					t.Errorf("%s: %s since %s", how, got, got.Before)
				}
			}
			s, err := f.ShrunkSince(t.Context(), now)
			if err != nil {
				t.Fatal(err)
			}
			check("by itself", s)
			for _, e := range f.list(t, catalog.Filter{}).Entries {
				switch {
				case e.Backup.ID == now.ID:
					check("in a list", e.Shrunk)
				case e.Backup.ID == after.ID: // it has as little, and is as suspicious
					check("the next", e.Shrunk)
				case e.Shrunk != nil:
					t.Errorf("%s is called shrunk: %s", e.Backup.ID, e.Shrunk)
				}
			}
		})
	}
}

func TestLatestThatShrank(t *testing.T) {
	f := newFixture(t)
	before := f.commit(t, holding(backup(1), 3, 1000))
	f.put(t, catalog.Folder("main", "shop", "20261122T120130Z-abcdef")+"/manifest.json", "{") // the one between is of no use
	now := f.commit(t, holding(backup(2), 3, 10))
	e, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{Server: "main", Database: "shop", Now: noon})
	if err != nil || e.Backup.ID != now.ID || e.Shrunk == nil || e.Shrunk.Before != before.ID {
		t.Errorf("%+v %v", e, err)
	}
	if s, err := f.ShrunkSince(t.Context(), now); err != nil || s == nil || s.Before != before.ID {
		t.Errorf("%+v %v", s, err)
	}
	if words := e.Shrunk.String(); strings.Contains(words, "tables") {
		t.Errorf("no table is gone: %s", words)
	}
}

// TestShrunkInOneSecond: of two backups in one second it is not their ids that say
// which came first.
func TestShrunkInOneSecond(t *testing.T) {
	f := newFixture(t)
	inOneSecond := func(suffix string, after time.Duration, rows int64) *pgmedic.Backup {
		b := holding(backup(1), 3, rows)
		b.ID, b.StartedAt = b.ID[:len(b.ID)-6]+suffix, b.StartedAt.Add(after)
		return f.commit(t, b)
	}
	first := inOneSecond("ffffff", 0, 5000)
	before := inOneSecond("eeeeee", 300*time.Millisecond, 2000)
	now := inOneSecond("cccccc", 600*time.Millisecond, 100)
	inOneSecond("dddddd", 900*time.Millisecond, 100)
	if s, err := f.ShrunkSince(t.Context(), now); err != nil || s == nil || s.Before != before.ID {
		t.Errorf("since %+v, %v", s, err)
	}
	if s, err := f.ShrunkSince(t.Context(), before); err != nil || s == nil || s.Before != first.ID {
		t.Errorf("since %+v, %v", s, err)
	}
	if s, err := f.ShrunkSince(t.Context(), first); err != nil || s != nil {
		t.Errorf("since %+v, %v", s, err)
	}
	for _, e := range f.list(t, catalog.Filter{}).Entries {
		if e.Backup.ID == now.ID && (e.Shrunk == nil || e.Shrunk.Before != before.ID) {
			t.Errorf("in a list: since %+v", e.Shrunk)
		}
	}
}

// TestShrunkAnnounced: a label says that a deletion was meant, and contents that went where no
// row did are seen.
func TestShrunkAnnounced(t *testing.T) {
	for name, test := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"announced":  {map[string]string{shrunk.Label: shrunk.Expected}, ""},
		"another":    {map[string]string{"release": "4.2"}, "1.0 KiB of contents instead of 2.0 MiB"},
		"no label":   {nil, "1.0 KiB of contents instead of 2.0 MiB"},
		"not so":     {map[string]string{shrunk.Label: "yes"}, "1.0 KiB of contents instead of 2.0 MiB"},
		"other case": {map[string]string{"Shrunk": shrunk.Expected}, "1.0 KiB of contents instead of 2.0 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			of := func(b *pgmedic.Backup, contents int64) *pgmedic.Backup {
				for i, o := range b.Objects {
					if o.Role == pgmedic.RoleDump || o.Role == pgmedic.RoleSchema {
						b.Objects[i].PlainBytes = contents
					}
				}
				return f.commit(t, b)
			}
			of(backup(1), 2<<20)
			b := backup(2)
			b.Labels = test.labels
			now := of(b, 1<<10)
			got, err := f.ShrunkSince(t.Context(), now)
			if err != nil {
				t.Fatal(err)
			}
			if got == nil && test.want != "" || got != nil && got.String() != test.want {
				t.Errorf("got %v, want %q", got, test.want)
			}
		})
	}
}
