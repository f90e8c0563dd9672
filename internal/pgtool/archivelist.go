package pgtool

import (
	"context"
	"io"
	"path/filepath"
	"regexp"

	"github.com/pgmedic/pgmedic"
)

// eventTriggerEntry matches a line of an archive's list that is about an event
// trigger.
var eventTriggerEntry = regexp.MustCompile(`^\d+; \d+ \d+ (?:(?:COMMENT|SECURITY LABEL) - )?EVENT TRIGGER `)

// PostDataLists writes two lists for RestoreArchiveOptions.List into a folder: an
// archive without its event triggers and the foreign keys, and the event triggers
// alone, which have to come last: one that fires in every session fires for the
// materialized views that are refreshed after it. Either is empty where it is not
// needed.
func PostDataLists(ctx context.Context, tool Tool, file, dir string, without []pgmedic.ForeignKey) (rest, triggers string, err error) {
	rest, triggers = filepath.Join(dir, "others.list"), filepath.Join(dir, "triggers.list")
	found := false
	err = writeLists(rest, func(others io.Writer) error {
		return writeLists(triggers, func(last io.Writer) error {
			return eachEntry(ctx, tool, file, oidsOf(without), func(line string) error {
				to := others
				if eventTriggerEntry.MatchString(line) {
					to, found = last, true
				}
				_, err := io.WriteString(to, line)
				return err
			})
		})
	})
	if err != nil {
		return "", "", err
	}
	if !found && len(without) == 0 {
		rest = ""
	}
	if !found {
		triggers = ""
	}
	return rest, triggers, nil
}
