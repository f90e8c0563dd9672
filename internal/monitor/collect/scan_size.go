package collect

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

func scanDatabaseSize(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.Size](rows)
	if err == nil {
		r.Size = &got
	}
	return err
}

// scanDatabaseSizes names the databases that can't be measured: their space is taken
// all the same.
func scanDatabaseSizes(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		Name  string
		Bytes *int64
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	size := made(&r.Size)
	size.Databases = []reading.DatabaseSize{}
	for _, g := range got {
		if g.Bytes == nil {
			r.Skipped = append(r.Skipped, reading.Skipped{
				Section: reading.SectionSize, Query: "size of database " + sqltext.PrintableIdent(g.Name), Reason: "this role lacks CONNECT on it: grant it pg_monitor",
			})
			continue
		}
		size.Databases = append(size.Databases, reading.DatabaseSize{Name: g.Name, Bytes: *g.Bytes})
	}
	return nil
}

// scanTablespaces lists the disks that are not looked at: that of the data folder is
// the only one.
func scanTablespaces(rows pgx.Rows, r *reading.Reading) error {
	type row struct{ Name, Location string }
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	for _, g := range got {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionSize, Query: "the disk of tablespace " + sqltext.PrintableIdent(g.Name),
			Reason: "only the disk of the data folder is measured: look at df " + g.Location + " on the server's machine",
		})
	}
	return nil
}

func scanKeptDatabases(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		Name, Comment string
		Bytes         *int64
		Now           time.Time
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	size := made(&r.Size)
	size.Kept = []reading.KeptDatabase{}
	for _, g := range got {
		story, ok := storyIn(g.Comment)
		// A database that somebody renamed is theirs, and a live one can have
		// brought the story of another along.
		if !ok || !(databases.Kept{Name: g.Name, Story: story}).Own() {
			continue
		}
		size.Kept = append(size.Kept, reading.KeptDatabase{
			Name: g.Name, Of: story.Of, State: story.Pgmedic, Since: story.Since.UTC(),
			AgeSeconds: g.Now.Sub(story.Since).Seconds(), Bytes: g.Bytes,
		})
	}
	return nil
}

func scanRescuedSchemas(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		Name, Comment string
		Now           time.Time
		Tables        int
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	size := made(&r.Size)
	size.Rescued = []reading.RescuedSchema{}
	for _, g := range got {
		if story, ok := databases.RescueStory(g.Name, g.Comment); ok {
			size.Rescued = append(size.Rescued, reading.RescuedSchema{
				Name: g.Name, Backup: story.Backup, Since: story.Since.UTC(), AgeSeconds: g.Now.Sub(story.Since).Seconds(), Tables: g.Tables,
			})
		}
	}
	slices.SortStableFunc(size.Rescued, func(a, b reading.RescuedSchema) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name))
	})
	return nil
}

// storyIn reads what pgmedic wrote into a comment. Times without a zone or a date are
// somebody else's JSON.
func storyIn(comment string) (s pgmedic.Story, ok bool) {
	ok = json.Unmarshal([]byte(comment), &s) == nil && s.Pgmedic != "" && !s.Since.IsZero()
	return s, ok
}
