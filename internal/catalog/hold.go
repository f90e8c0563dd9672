package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// noteFormat is the format number of holds and marks.
	noteFormat = 1
	// maxNoteBytes is what a hold or a mark may have, maxHolds how many are read of
	// one backup.
	maxNoteBytes = 16 << 10
	maxHolds     = 64
)

// Hold keeps a backup from being deleted by prune. It is an object beside the
// backup, of which there may be several.
type Hold struct {
	// Format is 1.
	Format int `json:"format"`
	// Name tells the holds of one backup apart.
	Name string `json:"name"`
	// By is the account that held it, on Host, and At is when.
	By   string    `json:"by"`
	Host string    `json:"host"`
	At   time.Time `json:"at"`
	// Reason is what the user gave as one.
	Reason string `json:"reason"`
	// Until is when the hold ends. Zero is never.
	Until time.Time `json:"until,omitzero"`
	// Odd says why nothing is known of the hold but its name. It holds all the same.
	Odd string `json:"odd,omitempty"`
}

// Holds reports whether the hold has not ended yet.
func (h Hold) Holds(now time.Time) bool { return h.Until.IsZero() || now.Before(h.Until) }

// Held returns the holds that have not ended yet.
func (e Entry) Held(now time.Time) []Hold {
	return slices.DeleteFunc(slices.Clone(e.Holds), func(h Hold) bool { return !h.Holds(now) })
}

// holdFile matches the name of a hold within the backup's folder.
var holdFile = regexp.MustCompile(`^hold-([^/]+)\.json$`)

// ValidHoldName matches the names that a hold can be given.
var ValidHoldName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// holdName returns the name of a hold, or empty for another object.
func holdName(object string) string {
	if m := holdFile.FindStringSubmatch(object); m != nil {
		return m[1]
	}
	return ""
}

func holdKey(b *pgmedic.Backup, name string) string { return Key(b, "hold-"+name+".json") }

// AddHold holds a backup. A hold of that name that says the same is kept as it is;
// another one is an error of KindConflict. Where the backup is gone, perhaps at this
// moment, the error is of KindNotFound.
func (c *Catalog) AddHold(ctx context.Context, b *pgmedic.Backup, h Hold) error {
	if !ValidHoldName.MatchString(h.Name) {
		return pgmedic.Errorf(pgmedic.KindUsage, "use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first", "%q is not a valid name of a hold", h.Name)
	}
	if err := mustExist(ctx, c, b); err != nil {
		return err
	}
	h.Format, h.Odd = noteFormat, ""
	err := putNote(ctx, c, holdKey(b, h.Name), h)
	if errors.Is(err, store.ErrExists) {
		var there Hold
		if there, err = readHold(ctx, c, holdKey(b, h.Name)); err != nil {
			return fmt.Errorf("read the hold that is there: %w", err)
		}
		if there.By != h.By || there.Reason != h.Reason || !there.Until.Equal(h.Until) {
			return pgmedic.Errorf(pgmedic.KindConflict, "give the new one another --name, or release that one first: pgmedic release "+b.ID+" --name "+h.Name,
				"backup %s has a hold %q already, by %s, for %q", b.ID, h.Name, there.By, there.Reason)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("hold backup %s: %w", b.ID, err)
	}
	// Remove looks for holds once more when the manifest is gone, and puts it back: one
	// of the two sees the other.
	if err := mustExist(ctx, c, b); err != nil {
		return errors.Join(err, c.store.Delete(context.WithoutCancel(ctx), holdKey(b, h.Name)))
	}
	return nil
}

// RemoveHold takes a hold away. One that is not there is an error of KindNotFound.
func (c *Catalog) RemoveHold(ctx context.Context, b *pgmedic.Backup, name string) error {
	key := holdKey(b, name)
	if _, err := c.store.Stat(ctx, key); err != nil {
		return fmt.Errorf("release hold %q of backup %s: %w", name, b.ID, err)
	}
	if err := c.store.Delete(ctx, key); err != nil {
		return fmt.Errorf("release hold %q of backup %s: %w", name, b.ID, err)
	}
	return nil
}

func mustExist(ctx context.Context, c *Catalog, b *pgmedic.Backup) error {
	there, err := c.Exists(ctx, b)
	if err == nil && !there {
		err = pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic list` shows what is there", "backup %s is not in %s any more", b.ID, c.store)
	}
	return err
}

// putNote stores a hold or a mark.
func putNote(ctx context.Context, c *Catalog, key string, note any) error {
	data, err := json.MarshalIndent(note, "", "  ")
	if err == nil && len(data) >= maxNoteBytes {
		err = pgmedic.Errorf(pgmedic.KindUsage, "shorten the reason", "%s would have more than %d bytes", path.Base(key), maxNoteBytes)
	}
	if err != nil {
		return err
	}
	_, err = c.store.Put(ctx, key, bytes.NewReader(append(data, '\n')))
	return err
}

// readHold reads a hold. What is not valid as one holds as well: it is odd.
func readHold(ctx context.Context, c *Catalog, key string) (Hold, error) {
	name := holdName(path.Base(key))
	data, err := c.read(ctx, key, maxNoteBytes)
	switch {
	case errors.Is(err, errTooLarge):
		return Hold{Name: name, Odd: "it is larger than a hold"}, nil
	case err != nil:
		return Hold{}, err
	}
	return parseHold(name, data), nil
}

func parseHold(name string, data []byte) Hold {
	var h Hold
	switch err := json.Unmarshal(data, &h); {
	case err != nil || h.Format < 1:
		return Hold{Name: name, Odd: "it is not valid"}
	case h.Format > noteFormat:
		return Hold{Name: name, Odd: "a newer pgmedic made it"}
	}
	h.Name, h.Odd = name, ""
	return h
}

// readHolds reads the holds and the mark of a backup into its entry.
func readHolds(ctx context.Context, c *Catalog, d *folder, e *Entry) error {
	e.beside = besideOf(d.beside)
	for i, object := range d.holds {
		h := Hold{Name: holdName(path.Base(object.Key)), Odd: "there are too many"}
		if i < maxHolds {
			var err error
			h, err = readHold(ctx, c, object.Key)
			if errors.Is(err, store.ErrNotFound) { // released meanwhile
				continue
			} else if err != nil {
				return fmt.Errorf("read hold %s: %w", path.Base(object.Key), err)
			}
		}
		e.Holds = append(e.Holds, h)
	}
	if d.mark.Key == "" {
		return nil
	}
	m, err := readMark(ctx, c, d.mark)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read the mark of backup %s: %w", d.id, err)
	}
	e.Mark = &m
	return nil
}

// besideOf makes one text of the names beside a backup, to see whether any came or went.
func besideOf(names []string) string {
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return hex.EncodeToString(sum[:])
}

// scopeOf tells parts of a database apart by what was asked for.
func scopeOf(b *pgmedic.Backup) string {
	if !b.Partial() {
		return ""
	}
	asked := pgmedic.Scope{
		Tables: b.Scope.Tables, Schemas: b.Scope.Schemas, ExcludeTables: b.Scope.ExcludeTables,
		ExcludeSchemas: b.Scope.ExcludeSchemas, ExcludeTableData: b.Scope.ExcludeTableData,
	}
	text, err := json.Marshal(asked)
	if err != nil {
		return "unknown" // strings alone: it can't be
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}
