package pgtool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

// pgConstraint is the OID of the catalogue of constraints, in every version.
const pgConstraint = "2606"

// WriteList writes into the file at path what pg_restore --use-list takes: the
// contents of an archive, less the foreign keys and what hangs on them, such as
// their comments. A foreign key is found by its OID: a name in a list may look
// like anything.
func WriteList(ctx context.Context, tool Tool, archive, path string, without []pgmedic.ForeignKey) error {
	return writeLists(path, func(f io.Writer) error {
		return eachEntry(ctx, tool, archive, oidsOf(without), func(line string) error {
			_, err := io.WriteString(f, line)
			return err
		})
	})
}

// writeLists makes the file at path of what write writes.
func writeLists(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the list of what to restore: %w", err)
	}
	w := bufio.NewWriter(f)
	err = write(w)
	if err == nil {
		if err = w.Flush(); err != nil {
			err = fmt.Errorf("write the list of what to restore: %w", err)
		}
	}
	return errors.Join(err, f.Close())
}

func oidsOf(keys []pgmedic.ForeignKey) []string {
	oids := make([]string, len(keys))
	for i, k := range keys {
		oids[i] = strconv.FormatInt(k.OID, 10)
	}
	return oids
}

// eachEntry calls keep with each line of an archive's list, less the constraints
// with the OIDs given and what depends on them. It holds one line at a time, for
// an archive may list as much as it likes.
func eachEntry(ctx context.Context, tool Tool, archive string, oids []string, keep func(line string) error) error {
	process, err := Start(ctx, Command{Tool: tool, Offline: true, Args: []string{"--list", "--verbose", archive}})
	if err != nil {
		return err
	}
	err = lessConstraints(process, oids, keep)
	if closeErr := process.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("list an archive's contents: %w", err)
	}
	return nil
}

// maxListLine bounds a line of an archive's list: one may list thousands of ids.
const maxListLine = 16 << 20

// lessConstraints takes constraints out of a verbose list, in which an entry is
// "id; catalogue oid …" and lines of comment below it say which ids it depends
// on.
func lessConstraints(list io.Reader, oids []string, keep func(line string) error) error {
	gone := map[string]bool{}
	last, entry := "", "" // what is kept unless a line below it says otherwise
	flush := func() error {
		if entry == "" || gone[last] {
			return nil
		}
		return keep(entry + "\n")
	}
	lines := bufio.NewScanner(list)
	lines.Buffer(nil, maxListLine)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if on, ok := dependencies(line); ok {
			for _, id := range strings.Fields(on) {
				if gone[id] {
					gone[last] = true
				}
			}
			continue
		}
		id, catalogue, oid := entryOf(line)
		if id == "" {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		last, entry = id, line
		if catalogue == pgConstraint && slices.Contains(oids, oid) {
			gone[id] = true
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return flush()
}

func dependencies(line string) (on string, ok bool) {
	if !strings.HasPrefix(line, ";") {
		return "", false
	}
	_, on, ok = strings.Cut(line, "depends on:")
	return on, ok
}

// entryOf reads the line of an entry; id is empty where it is none.
func entryOf(line string) (id, catalogue, oid string) {
	words := strings.Fields(line[:min(len(line), 1<<10)])
	if len(words) < 4 {
		return "", "", ""
	}
	id, _ = strings.CutSuffix(words[0], ";")
	if id == words[0] {
		return "", "", ""
	}
	return id, words[1], words[2]
}

// WriteEntryList writes into the file at path what pg_restore --use-list takes: the
// entries of an archive that have the numbers given, in their order.
func WriteEntryList(ctx context.Context, tool Tool, archive, path string, ids map[string]bool) error {
	return writeLists(path, func(f io.Writer) error {
		return eachEntry(ctx, tool, archive, nil, func(line string) error {
			if id, _, _ := entryOf(line); !ids[id] {
				return nil
			}
			_, err := io.WriteString(f, line)
			return err
		})
	})
}

// StartScript begins to write an archive's entries as SQL: those in the file at
// list.
func StartScript(ctx context.Context, tool Tool, archive, list string) (*Process, error) {
	return Start(ctx, Command{Tool: tool, Offline: true, Args: []string{"--file=-", "--use-list=" + list, archive}})
}

// StartEntries is StartScript with the number of each entry in a comment above it,
// as EachStatement reads it.
func StartEntries(ctx context.Context, tool Tool, archive, list string, without dumpsql.Without) (*Process, error) {
	args := append([]string{"--verbose", "--file=-", "--use-list=" + list}, withoutArguments(without)...)
	return Start(ctx, Command{Tool: tool, Offline: true, Args: append(args, archive)})
}
