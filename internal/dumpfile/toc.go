package dumpfile

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// The versions of the archive's format, 1.x, whose table of contents is known: those of
// pg_dump 9.0, with which folders began, to 18.
const oldestTOC, newestTOC = 12, 16

// maxText bounds a text in a table of contents; the server takes no longer statement.
const maxText = 1 << 30

// checkFolder refuses what would have pg_restore read other files of this host than the
// dump's: members that are links or devices, and names in toc.dat and in the lists of
// large objects that lead out of the folder.
func (f *File) checkFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return f.unreadable(err)
	}
	for _, e := range entries {
		info, err := os.Lstat(filepath.Join(dir, e.Name()))
		switch {
		case err != nil:
			return f.unreadable(err)
		case !isMember(e.Name()):
			return pgmedic.Errorf(pgmedic.KindIntegrity, "if you know where it is from, move it out of the folder", "%s holds %q, which does not belong to a dump of pg_dump -Fd", f.o.Path, e.Name())
		case !info.Mode().IsRegular():
			return f.notRegular(e.Name())
		}
	}
	if err := f.withFile(filepath.Join(dir, tocName), f.checkTOC); err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toc") {
			if err := f.withFile(filepath.Join(dir, e.Name()), f.checkLargeObjects); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *File) withFile(path string, check func(io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return f.unreadable(err)
	}
	defer func() { _ = file.Close() }() // only read
	return check(file)
}

// checkTOC walks the entries of toc.dat, as pg_dump's WriteToc writes them, for the names
// of files.
func (f *File) checkTOC(r io.Reader) error {
	h, err := f.readHeader(r)
	if err != nil {
		return err
	}
	if h.minor < oldestTOC || h.minor > newestTOC {
		return pgmedic.Errorf(pgmedic.KindUsage, "convert it where it was made: pg_restore --file=dump.sql FOLDER; or use a newer pgmedic",
			"%s is a folder of pg_dump -Fd in version 1.%d of the format, and 1.%d to 1.%d are known", f.o.Path, h.minor, oldestTOC, newestTOC)
	}
	if h.intSize != 4 { // pg_dump writes that everywhere, and pg_restore reads others in ways of its own
		return f.damaged("damaged: its header makes no sense")
	}
	entries, err := h.number()
	for ; err == nil && entries > 0; entries-- {
		var name string
		if name, err = h.entryFile(); err == nil && name != "" && !isMember(name) {
			return f.foreignName()
		}
	}
	if err != nil {
		return f.headerError(err)
	}
	return nil
}

func (f *File) foreignName() error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "do not restore this dump: find out who wrote it", "%s names a file that does not belong to a dump of pg_dump -Fd", f.o.Path)
}

// entryFile reads an entry of the table of contents and returns the name of its file,
// which is empty where it has none.
func (h *header) entryFile() (string, error) {
	const number, text = 'n', 't'
	// The entry's number, and whether it has data; the numbers of its catalog and object,
	// tag, kind; section; definition, drop, copy, schema, tablespace.
	fields := "nn" + "tttt" + "n" + "ttttt"
	if h.minor >= 14 {
		fields += "t" // the access method
	}
	if h.minor >= 16 {
		fields += "n" // the kind of relation
	}
	fields += "tt" // the owner, and whether it has OIDs
	for _, field := range fields {
		var err error
		switch field {
		case number:
			_, err = h.number()
		case text:
			_, err = h.skipText()
		}
		if err != nil {
			return "", err
		}
	}
	for { // what it depends on, up to a text that is not there
		if there, err := h.skipText(); err != nil {
			return "", err
		} else if !there {
			break
		}
	}
	return h.text()
}

// skipText passes over a text, and reports whether it is there.
func (h *header) skipText() (there bool, err error) {
	n, err := h.number()
	if err != nil || n < 0 {
		return false, err
	}
	if n > maxText {
		return false, errHeader
	}
	_, err = h.r.Discard(n)
	return true, err
}

// largeObjectLine is a line of a list of large objects: its number and its file.
var largeObjectLine = regexp.MustCompile(`\A[0-9]{1,10} blob_[0-9]{1,10}\.dat\z`)

func (f *File) checkLargeObjects(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Split(splitLines)
	for lines.Scan() {
		if !largeObjectLine.Match(lines.Bytes()) {
			return f.foreignName()
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return f.foreignName()
	}
	if lines.Err() != nil {
		return f.unreadable(lines.Err())
	}
	return nil
}

// splitLines gives lines without their newline, and nothing else taken off.
func splitLines(data []byte, atEnd bool) (advance int, line []byte, err error) {
	for i, b := range data {
		if b == '\n' {
			return i + 1, data[:i], nil
		}
	}
	if atEnd && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
