package pgtool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// ArchiveEntry is an entry of an archive's list.
type ArchiveEntry struct {
	// ID is its number in the archive, and DependsOn are those of the entries that it
	// depends on.
	ID        string
	DependsOn []string
	// Text begins with pg_dump's word for its kind, and its schema. Names in it stand as
	// they are, but for line breaks, so that where one ends is not always known.
	Text string
}

// ListEntries lists an archive's contents in their order: what an entry depends on comes
// before it.
func ListEntries(ctx context.Context, tool Tool, archive string) ([]ArchiveEntry, error) {
	process, err := Start(ctx, Command{Tool: tool, Offline: true, Args: []string{"--list", "--verbose", archive}})
	if err != nil {
		return nil, err
	}
	entries, err := readEntries(process)
	if closeErr := process.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("list an archive's contents: %w", err)
	}
	return entries, nil
}

func readEntries(list io.Reader) (entries []ArchiveEntry, err error) {
	lines := bufio.NewScanner(list)
	lines.Buffer(nil, maxListLine)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if on, ok := dependencies(line); ok {
			if n := len(entries); n > 0 {
				entries[n-1].DependsOn = append(entries[n-1].DependsOn, strings.Fields(on)...)
			}
			continue
		}
		id, catalogue, oid := entryOf(line)
		if id == "" {
			continue
		}
		entries = append(entries, ArchiveEntry{ID: id, Text: strings.TrimPrefix(line, id+"; "+catalogue+" "+oid+" ")})
	}
	return entries, lines.Err()
}
