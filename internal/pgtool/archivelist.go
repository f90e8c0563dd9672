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
)

// eventTriggerEntry matches a line of an archive's list that is about an event
// trigger.
var eventTriggerEntry = regexp.MustCompile(`^\d+; \d+ \d+ (?:(?:COMMENT|SECURITY LABEL) - )?EVENT TRIGGER `)

// SplitEventTriggers writes two lists for RestoreArchiveOptions.List into a
// folder: an archive without its event triggers, and those alone. They have to
// come last: one that fires in every session fires for the materialized views
// that are refreshed after it. Both are empty where the archive has none.
func SplitEventTriggers(ctx context.Context, tool Tool, file, dir string) (without, alone string, err error) {
	p, err := Start(ctx, Command{Tool: tool, Args: []string{"--list", file}})
	if err != nil {
		return "", "", err
	}
	list, err := io.ReadAll(p)
	if err = errors.Join(err, p.Close()); err != nil {
		return "", "", fmt.Errorf("list what the archive holds: %w", err)
	}
	var others, triggers strings.Builder
	for line := range strings.Lines(string(list)) {
		if eventTriggerEntry.MatchString(line) {
			triggers.WriteString(line)
		} else {
			others.WriteString(line)
		}
	}
	if triggers.Len() == 0 {
		return "", "", nil
	}
	without, alone = filepath.Join(dir, "others.list"), filepath.Join(dir, "triggers.list")
	err = errors.Join(os.WriteFile(without, []byte(others.String()), 0o600), os.WriteFile(alone, []byte(triggers.String()), 0o600))
	return without, alone, err
}
