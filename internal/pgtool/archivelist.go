package pgtool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/pgmedic/pgmedic"
)

var (
	// triggerEntry matches a line of an archive's list that is about a trigger or an
	// event trigger. It may match the comment of something else that is named so, which
	// is no worse off last.
	triggerEntry = regexp.MustCompile(`^\d+; \d+ \d+ (?:(?:EVENT )?TRIGGER |(?:COMMENT|SECURITY LABEL) .*TRIGGER )`)
	// attachEntry matches one that makes an index that of a partition.
	attachEntry = regexp.MustCompile(`^\d+; \d+ \d+ INDEX ATTACH `)
	// referenceEntry matches a foreign key, or the comment of a constraint: of which kind
	// of constraint the line does not say, and the others are made before.
	referenceEntry = regexp.MustCompile(`^\d+; \d+ \d+ (?:FK CONSTRAINT |COMMENT .*CONSTRAINT )`)
)

// PostDataPart is one of the lists in which an archive's last section is restored.
type PostDataPart struct {
	// List is for RestoreArchiveOptions.List; empty where it is the whole section.
	List string
	// Alone says that the entries are restored one after the other.
	Alone bool
	// Attaches says that it makes indexes of partitioned tables valid.
	Attaches bool
}

// PostDataParts parts what comes after an archive's rows, without the foreign keys
// given, into lists that it writes into a folder, in the order in which they are to be
// restored:
//
//   - Indexes, constraints and all that is in no other part.
//   - The indexes of partitions become those of the table above, alone. Where one session
//     completes a partition's own partitions while another attaches beside it, neither
//     sees the other, and PostgreSQL (up to 18.6 at least) leaves the index at the top
//     invalid for good: foreign keys to the table and ON CONFLICT are refused.
//   - The foreign keys, for which these have to be valid.
//   - The triggers, alone. An event trigger that fires in every session fires for the
//     materialized views that are refreshed after it. An entry that sets the state of a
//     partition's trigger needs the trigger of the table above it, and of a table between
//     the two no entry says so.
//
// A part without entries is left out. Without indexes to attach, foreign keys are among
// the first.
func PostDataParts(ctx context.Context, tool Tool, file, dir string, without []pgmedic.ForeignKey) ([]PostDataPart, error) {
	const others, attach, references, triggers = 0, 1, 2, 3
	var paths [4]string
	for i, name := range []string{others: "others", attach: "attach", references: "references", triggers: "triggers"} {
		paths[i] = filepath.Join(dir, name+".list")
	}
	var entries [len(paths)]int
	err := writeListsInto(paths[:], nil, func(lists []io.Writer) error {
		return eachEntry(ctx, tool, file, oidsOf(without), func(line string) error {
			part := others
			switch {
			case triggerEntry.MatchString(line):
				part = triggers
			case attachEntry.MatchString(line):
				part = attach
			case referenceEntry.MatchString(line):
				part = references
			}
			entries[part]++
			_, err := io.WriteString(lists[part], line)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if entries[attach] == 0 && entries[references] > 0 {
		if err := appendList(paths[others], paths[references]); err != nil {
			return nil, err
		}
		entries[others], entries[references] = entries[others]+entries[references], 0
	}
	if entries[attach] == 0 && entries[triggers] == 0 && len(without) == 0 {
		return []PostDataPart{{}}, nil
	}
	var parts []PostDataPart
	for i, path := range paths {
		if entries[i] > 0 {
			parts = append(parts, PostDataPart{List: path, Alone: i == attach || i == triggers, Attaches: i == attach})
		}
	}
	return parts, nil
}

// writeListsInto is writeLists for several files; lists are those that are open.
func writeListsInto(paths []string, lists []io.Writer, write func([]io.Writer) error) error {
	if len(paths) == 0 {
		return write(lists)
	}
	return writeLists(paths[0], func(f io.Writer) error {
		return writeListsInto(paths[1:], append(lists, f), write)
	})
}

// appendList adds the list at path to another one.
func appendList(to, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the list of what to restore: %w", err)
		}
	}()
	text, err := os.Open(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return errors.Join(err, text.Close())
	}
	_, err = io.Copy(f, text)
	return errors.Join(err, f.Close(), text.Close())
}
