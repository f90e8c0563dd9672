package pgtool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

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
	contents, err := listArchive(ctx, tool, file)
	if err != nil {
		return "", "", err
	}
	var others, last strings.Builder
	for line := range strings.Lines(string(lessConstraints(contents, oidsOf(without)))) {
		if eventTriggerEntry.MatchString(line) {
			last.WriteString(line)
		} else {
			others.WriteString(line)
		}
	}
	if last.Len() > 0 {
		triggers = filepath.Join(dir, "triggers.list")
		err = os.WriteFile(triggers, []byte(last.String()), 0o600)
	}
	if last.Len() > 0 || len(without) > 0 {
		rest = filepath.Join(dir, "others.list")
		err = errors.Join(err, os.WriteFile(rest, []byte(others.String()), 0o600))
	}
	if err != nil {
		return "", "", fmt.Errorf("write the list of what to restore: %w", err)
	}
	return rest, triggers, nil
}

// listArchive returns an archive's verbose list of contents.
func listArchive(ctx context.Context, tool Tool, file string) ([]byte, error) {
	process, err := Start(ctx, Command{Tool: tool, Offline: true, Args: []string{"--list", "--verbose", file}})
	if err != nil {
		return nil, err
	}
	contents, err := io.ReadAll(process)
	if closeErr := process.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("list an archive's contents: %w", err)
	}
	return contents, nil
}
