package dumpfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// maxSidecar bounds a file beside the dump.
const maxSidecar = 64 << 10

// CheckChecksum reads the whole file and compares its SHA-256 with what the caller
// wants, if that is not empty, and with what files beside it say: FILE.sha256 as
// sha256sum writes it, and a JSON file with the size or the checksum, as backup scripts
// write it. A difference is an error of KindIntegrity. The check says what was compared,
// or that nothing was there to compare with.
func (f *File) CheckChecksum(ctx context.Context, want string) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: "checksum", Outcome: pgmedic.OutcomeSkipped}
	if f.isFolder() {
		if want != "" {
			return check, pgmedic.Errorf(pgmedic.KindUsage, "leave --sha256 out, or pack the folder into one file", "%s is a folder, which has no checksum", f.o.Path)
		}
		check.Detail = "a folder has no checksum: not checked"
		return check, nil
	}
	sum, err := f.Checksum(ctx)
	if err != nil {
		return check, err
	}
	var agreed []string
	if want != "" {
		if err := f.compareSum(sum, strings.ToLower(strings.TrimSpace(want)), "--sha256"); err != nil {
			return check, err
		}
		agreed = append(agreed, "--sha256")
	}
	for _, suffix := range []string{".sha256", ".sha256sum"} {
		text, err := f.beside(f.o.Path + suffix)
		if errors.Is(err, errLargeSidecar) {
			err = f.damaged("%s, beside it, is larger than %s and holds no checksum", filepath.Base(f.o.Path)+suffix, words.Size(maxSidecar))
		}
		if err != nil {
			return check, err
		}
		if text == nil {
			continue
		}
		if err := f.compareSum(sum, hashIn(string(text)), filepath.Base(f.o.Path)+suffix); err != nil {
			return check, err
		}
		agreed = append(agreed, filepath.Base(f.o.Path)+suffix)
	}
	names, unread, err := f.compareJSON(sum)
	if err != nil {
		return check, err
	}
	check.Detail = "no checksum beside it: not checked; sha256 " + sum
	if agreed = append(agreed, names...); len(agreed) > 0 {
		check.Outcome = pgmedic.OutcomeOK
		check.Detail = "sha256 " + sum + " as in " + strings.Join(agreed, ", ")
	}
	if len(unread) > 0 {
		check.Detail += fmt.Sprintf("; not read, because larger than %s: %s", words.Size(maxSidecar), strings.Join(unread, ", "))
	}
	// Who wrote an HMAC has its key, and this host does not know which one that is.
	if _, err := os.Stat(f.o.Path + ".hmac"); err == nil {
		check.Detail += "; not checked: " + filepath.Base(f.o.Path) + ".hmac, which takes the key of the program that wrote it"
	}
	return check, nil
}

var hexHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// hashIn is the hash in what sha256sum or openssl dgst wrote, or empty.
func hashIn(text string) string {
	fields := strings.Fields(strings.ToLower(strings.ReplaceAll(text, "=", " ")))
	if i := slices.IndexFunc(fields, hexHash.MatchString); i >= 0 {
		return fields[i]
	}
	return ""
}

func (f *File) compareSum(sum, want, where string) error {
	switch {
	case !hexHash.MatchString(want) && where == "--sha256":
		return pgmedic.Errorf(pgmedic.KindUsage, "give the 64 hex digits that sha256sum prints", "--sha256 is not a SHA-256 checksum")
	case want == "":
		return f.damaged("%s, beside it, holds no checksum", where)
	case want != sum:
		return f.damaged("its sha256 is %s, and %s says %s", sum, where, want)
	}
	return nil
}

// errLargeSidecar is the error of a file beside the dump that is larger than any that says
// something of it.
var errLargeSidecar = errors.New("the file beside the dump is too large")

// beside reads a file beside the dump. It is nil where there is none.
func (f *File) beside(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, f.unreadable(err)
	}
	defer func() { _ = file.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(file, maxSidecar+1))
	if err != nil {
		return nil, f.unreadable(err)
	}
	if len(text) > maxSidecar {
		return nil, errLargeSidecar
	}
	return text, nil
}

// jsonNames are where scripts put what they know of a dump: beside the whole name, and
// beside it without the suffixes of its layers.
func (f *File) jsonNames() (names []string) {
	stem := f.o.Path
	for {
		for _, suffix := range []string{".json", ".meta.json", ".metadata.json", "_metadata.json", ".meta"} {
			if name := stem + suffix; name != f.o.Path && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		ext := filepath.Ext(stem)
		if !slices.Contains([]string{".enc", ".age", ".gz", ".zst", ".bz2", ".sql", ".dump", ".tar", ".tgz", ".backup"}, ext) {
			return names
		}
		stem = strings.TrimSuffix(stem, ext)
	}
}

// compareJSON compares the file with what a JSON file beside it says, and returns the
// names of those that said something, and of those that are too large to be read. One that
// names another file is of that one.
func (f *File) compareJSON(sum string) (agreed, unread []string, err error) {
	for _, path := range f.jsonNames() {
		name := filepath.Base(path)
		text, err := f.beside(path)
		if errors.Is(err, errLargeSidecar) {
			unread = append(unread, name)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		var fields map[string]any
		if text == nil || json.Unmarshal(text, &fields) != nil {
			continue
		}
		said := &sidecar{}
		said.read(fields)
		if said.file != "" && filepath.Base(said.file) != filepath.Base(f.o.Path) {
			continue
		}
		if said.database != "" && f.Database == "" {
			f.Database = said.database
		}
		switch {
		case slices.Contains(said.hashes, sum): // of several the others are of other layers
			agreed = append(agreed, name)
		case len(said.hashes) > 0:
			return nil, nil, f.damaged("its sha256 is %s, and %s says %s", sum, name, strings.Join(said.hashes, ", "))
		case said.size > 0 && said.size != f.StoredBytes:
			return nil, nil, f.damaged("it has %d bytes, and %s says %d", f.StoredBytes, name, said.size)
		}
	}
	return agreed, unread, nil
}

// sidecar is what a script's JSON says of a dump.
type sidecar struct {
	file, database string
	hashes         []string // all of them, those of the outer object first
	size           int64
}

// read takes what it knows from an object and those inside of it, in the order of their
// keys. What an outer object says wins, but for hashes: all of them are kept, because a
// script may record those of the dump before and after its encryption.
func (s *sidecar) read(fields map[string]any) {
	names := slices.Sorted(maps.Keys(fields))
	for _, name := range names {
		s.field(name, fields[name])
	}
	for _, name := range names {
		if inner, ok := fields[name].(map[string]any); ok {
			s.read(inner)
		}
	}
}

// field takes one value, if its name is known and nothing was said before.
func (s *sidecar) field(name string, value any) {
	text, isText := value.(string)
	hash := strings.TrimPrefix(strings.ToLower(text), "sha256:")
	number, isNumber := value.(float64)
	switch name = strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name)); {
	case slices.Contains([]string{"checksum", "sha256", "sha256sum", "checksumsha256", "sha256checksum", "hash"}, name) && hexHash.MatchString(hash):
		if !slices.Contains(s.hashes, hash) {
			s.hashes = append(s.hashes, hash)
		}
	case isText && s.file == "" && slices.Contains([]string{"file", "filename", "backupfile", "backupfilename"}, name):
		s.file = text
	case isText && s.database == "" && slices.Contains([]string{"database", "databasename", "dbname"}, name):
		s.database = text
	case isNumber && s.size == 0 && slices.Contains([]string{"size", "sizebytes", "filesize", "filesizebytes", "backupsize"}, name):
		s.size = int64(number)
	}
}
