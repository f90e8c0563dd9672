package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

const (
	// maxDefinitions and maxDefinitionBytes are how many objects of an inventory are
	// compared, and how many bytes of their names are held.
	maxDefinitions     = 600_000
	maxDefinitionBytes = 64 << 20
	// maxTokenBytes is what one object of an inventory may have.
	maxTokenBytes = 1 << 20
)

// room is how many bytes an object that describes tables may have: plenty for each
// table, and plenty for everything else. A larger one is not what the manifest says
// that it is. Of a backup that was opened with its key every byte is authentic.
func (s Source) room(floor, perTable int64) int64 {
	if s.Key != nil {
		return 1 << 62
	}
	return floor + perTable*int64(len(s.Backup.Tables))
}

// tooLarge is the error for an object that is too large for what it describes.
func (s Source) tooLarge(o pgmedic.Object) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
		"backup %s is damaged: %s is larger than any list of its %s tables", s.Backup.ID, o.Name, pgmedic.Count(len(s.Backup.Tables)))
}

// ErrManyDefinitions says that an inventory lists more objects than are compared.
var ErrManyDefinitions = errors.New("the inventory lists more than " + pgmedic.Count(maxDefinitions) + " objects, too many to be compared")

// ReadInventory reads the list of the backup's objects, one by one. A list that is too long
// to be held is ErrManyDefinitions.
func ReadInventory(ctx context.Context, s Source) (inventory snapshot.Inventory, err error) {
	object, ok := s.Backup.Object(pgmedic.RoleInventory)
	if !ok {
		return inventory, pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names no inventory")
	}
	if object.PlainBytes > s.room(128<<20, 64<<10) {
		return inventory, s.tooLarge(object)
	}
	r, err := s.Open(ctx, object)
	if err != nil {
		return inventory, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := &lenReader{r: r}
	inventory, err = decodeInventory(in)
	if errors.Is(err, ErrManyDefinitions) {
		return inventory, err
	}
	// Only the end shows that it is what was written.
	if _, readErr := io.Copy(io.Discard, r); readErr != nil {
		return inventory, readErr
	}
	if err != nil {
		return inventory, pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "%s is not an inventory: %w", object.Name, err)
	}
	return inventory, nil
}

// lenReader ends with an error when a reader of tokens asks for more than one token
// may have.
type lenReader struct {
	r    io.Reader
	left int
}

func (l *lenReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("a value is too long")
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// decodeInventory decodes an inventory without holding more of it than one object
// and the list that it returns. Its errors say what is wrong and quote nothing.
func decodeInventory(in *lenReader) (inventory snapshot.Inventory, err error) {
	dec := json.NewDecoder(in)
	next := func(v any) error {
		in.left = maxTokenBytes
		return dec.Decode(v)
	}
	token := func() (json.Token, error) {
		in.left = maxTokenBytes
		return dec.Token()
	}
	bad := errors.New("not the JSON of one")
	if t, err := token(); err != nil || t != json.Delim('{') {
		return inventory, bad
	}
	for dec.More() {
		name, err := token()
		if err != nil {
			return inventory, bad
		}
		switch name {
		case "format":
			err = next(&inventory.Format)
		case "definitions":
			err = decodeDefinitions(dec, next, token, &inventory.Definitions)
		case "security_labels":
			err = decodeDefinitions(dec, next, token, &inventory.SecurityLabels)
		default:
			var other json.RawMessage // a field of a later version
			err = next(&other)
		}
		if errors.Is(err, ErrManyDefinitions) {
			return inventory, err
		}
		if err != nil {
			return inventory, bad
		}
	}
	if _, err := token(); err != nil {
		return inventory, bad
	}
	return inventory, nil
}

func decodeDefinitions(dec *json.Decoder, next func(any) error, token func() (json.Token, error), into *[]snapshot.Definition) error {
	switch t, err := token(); {
	case err != nil:
		return err
	case t == nil: // null: there are none
		return nil
	case t != json.Delim('['):
		return fmt.Errorf("definitions are not a list")
	}
	*into = []snapshot.Definition{} // an empty list, which differs from no list
	kinds := map[string]string{}    // few, and each many times
	bytes := 0
	for dec.More() {
		var d snapshot.Definition
		if err := next(&d); err != nil {
			return err
		}
		if bytes += len(d.Identity) + len(d.Hash) + len(d.Kind); len(*into) >= maxDefinitions || bytes > maxDefinitionBytes {
			return ErrManyDefinitions
		}
		kind, known := kinds[d.Kind]
		if !known {
			kind = strings.Clone(d.Kind)
			kinds[kind] = kind
		}
		d.Kind = kind
		*into = append(*into, d)
	}
	_, err := token()
	return err
}
