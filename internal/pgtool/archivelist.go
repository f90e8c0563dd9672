package pgtool

import (
	"context"
	"io"
	"path/filepath"
	"regexp"

	"github.com/pgmedic/pgmedic"
)

// triggerEntry matches a line of an archive's list that is about a trigger or an
// event trigger. It may match the comment of something else that is named so, which
// is no worse off last.
var triggerEntry = regexp.MustCompile(`^\d+; \d+ \d+ (?:(?:EVENT )?TRIGGER |(?:COMMENT|SECURITY LABEL) .*TRIGGER )`)

// PostDataLists writes two lists for RestoreArchiveOptions.List into a folder: an
// archive without its triggers and the foreign keys, and the triggers alone, which
// have to come last and one after the other. An event trigger that fires in every
// session fires for the materialized views that are refreshed after it. An entry
// that sets the state of a partition's trigger needs the trigger of the table above
// it, and of a table between the two no entry says so. Either is empty where it is
// not needed.
func PostDataLists(ctx context.Context, tool Tool, file, dir string, without []pgmedic.ForeignKey) (rest, triggers string, err error) {
	rest, triggers = filepath.Join(dir, "others.list"), filepath.Join(dir, "triggers.list")
	found := false
	err = writeLists(rest, func(others io.Writer) error {
		return writeLists(triggers, func(last io.Writer) error {
			return eachEntry(ctx, tool, file, oidsOf(without), func(line string) error {
				to := others
				if triggerEntry.MatchString(line) {
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
