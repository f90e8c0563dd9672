package pgtool

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// pgConstraint is the OID of the catalogue of constraints, in every version.
const pgConstraint = "2606"

// WriteList writes into the file at path what pg_restore --use-list takes: the
// contents of an archive, less the foreign keys and what hangs on them, such as
// their comments. A foreign key is found by its OID: a name in a list may look
// like anything.
func WriteList(ctx context.Context, tool Tool, archive, path string, without []pgmedic.ForeignKey) error {
	contents, err := listArchive(ctx, tool, archive)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, lessConstraints(contents, oidsOf(without)), 0o600); err != nil {
		return fmt.Errorf("write the list of what to restore: %w", err)
	}
	return nil
}

func oidsOf(keys []pgmedic.ForeignKey) []string {
	oids := make([]string, len(keys))
	for i, k := range keys {
		oids[i] = strconv.FormatInt(k.OID, 10)
	}
	return oids
}

// lessConstraints takes constraints out of a verbose list, in which an entry is
// "id; catalogue oid …" and lines of comment below it say which ids it depends
// on.
func lessConstraints(list []byte, oids []string) []byte {
	var ids []string
	entries, gone := map[string]string{}, map[string]bool{}
	last := ""
	for line := range strings.Lines(string(list)) { // a line may list thousands of ids
		line = strings.TrimRight(line, "\r\n")
		words := strings.Fields(line)
		id, isEntry := "", false
		if len(words) > 3 {
			id, isEntry = strings.CutSuffix(words[0], ";")
		}
		switch {
		case isEntry && id != "":
			last, ids, entries[id] = id, append(ids, id), line
			gone[id] = words[1] == pgConstraint && slices.Contains(oids, words[2])
		case strings.HasPrefix(line, ";") && strings.Contains(line, "depends on:"):
			_, on, _ := strings.Cut(line, "depends on:")
			for _, id := range strings.Fields(on) {
				gone[last] = gone[last] || gone[id]
			}
		}
	}
	var b bytes.Buffer
	for _, id := range ids {
		if !gone[id] {
			b.WriteString(entries[id] + "\n")
		}
	}
	return b.Bytes()
}

// StartScript begins to write an archive's entries as SQL: those in the file at
// list.
func StartScript(ctx context.Context, tool Tool, archive, list string) (*Process, error) {
	return Start(ctx, Command{Tool: tool, Offline: true, Args: []string{"--file=-", "--use-list=" + list, archive}})
}
