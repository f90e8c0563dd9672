package dumpfile

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	archiveMagic = "PGDMP"
	// tocName is the table of contents of the formats that are several files.
	tocName = "toc.dat"
	// maxHeaderText bounds a text in the header of an archive.
	maxHeaderText = 1 << 10
)

// isTar reports whether a block is the header of a file in a tar, by its checksum.
func isTar(block []byte) bool {
	if len(block) < 512 || string(block[257:262]) != "ustar" {
		return false
	}
	r := tar.NewReader(bytes.NewReader(block))
	_, err := r.Next()
	return err == nil
}

// header is the beginning of an archive, as pg_dump's WriteHead writes it.
type header struct {
	r       *bufio.Reader
	minor   int // of the format's version
	intSize int
}

// readHeader takes from an archive's header what it is of, and returns what is behind it.
func (f *File) readHeader(r io.Reader) (*header, error) {
	h := &header{r: bufio.NewReader(r)}
	fixed := make([]byte, len(archiveMagic)+6) // versions, sizes of numbers, format
	if _, err := io.ReadFull(h.r, fixed); err != nil {
		return nil, f.headerError(err)
	}
	if string(fixed[:len(archiveMagic)]) != archiveMagic {
		return nil, f.damaged("damaged: %s is not one that pg_dump wrote", tocName)
	}
	fixed = fixed[len(archiveMagic):]
	major, minor := int(fixed[0]), int(fixed[1])
	h.minor, h.intSize = minor, int(fixed[3])
	f.minor = minor
	if major != 1 || h.intSize < 1 || h.intSize > 8 {
		return nil, f.damaged("damaged: its header makes no sense")
	}
	// The compression is one byte since version 1.15 of the format, and a number
	// before. Then comes the time, in seven numbers.
	var err error
	if minor >= 15 {
		_, err = h.r.Discard(1)
	} else {
		_, err = h.number()
	}
	for range 7 {
		if err == nil {
			_, err = h.number()
		}
	}
	for _, text := range []*string{&f.Database, &f.Server, &f.Program} {
		if err == nil {
			*text, err = h.text()
		}
	}
	if errors.Is(err, errHeader) && minor > newestTOC {
		return nil, f.tooNew("and pgmedic knows 1.%d to 1.%d", oldestTOC, newestTOC)
	} else if err != nil {
		return nil, f.headerError(err)
	}
	f.Program, f.Server = versionOf(f.Program), versionOf(f.Server)
	return h, nil
}

func (f *File) headerError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return f.damaged("cut short: it ends in its header")
	}
	if errors.Is(err, errHeader) {
		return f.damaged("damaged: its header makes no sense")
	}
	return err
}

var errHeader = errors.New("no header of pg_dump")

// formatOf returns the newest minor version of the archive's format that a pg_restore reads
// (K_VERS_MAX in its pg_backup_archiver.h), or false where that is not known.
func formatOf(major int) (minor int, known bool) {
	switch {
	case major <= 15:
		return 14, true
	case major == 16:
		return 15, true
	}
	return newestTOC, major <= 18
}

// tooNew is the error of an archive in a later version of the format; the rest says later
// than what.
func (f *File) tooNew(rest string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindUsage, "convert it where it was made: pg_restore --file=dump.sql DUMP; or install a pg_restore as new as the pg_dump that made it",
		"%s is an archive in version 1.%d of the format, "+rest, append([]any{f.o.Path, f.minor}, args...)...)
}

// number reads a sign and as many bytes as the header said, the lowest first.
func (h *header) number() (int, error) {
	b := make([]byte, 1+h.intSize)
	if _, err := io.ReadFull(h.r, b); err != nil {
		return 0, err
	}
	n := 0
	for i := h.intSize; i >= 1; i-- {
		n = n<<8 | int(b[i])
	}
	if b[0] != 0 {
		n = -n
	}
	return n, nil
}

// text reads a length, which is negative where there is no text, and as many bytes.
func (h *header) text() (string, error) {
	n, err := h.number()
	if err != nil || n <= 0 {
		return "", err
	}
	if n > maxHeaderText {
		return "", errHeader
	}
	b := make([]byte, n)
	_, err = io.ReadFull(h.r, b)
	return string(b), err
}

var versionPattern = regexp.MustCompile(`^\d+(devel|beta\d+|rc\d+|(\.\d+)*)`)

// versionOf is the version at the beginning of a text: Debian adds its own.
func versionOf(text string) string { return versionPattern.FindString(text) }

// readComments takes from the beginning of pg_dump's SQL by which version it was
// written, and of which server's.
func (f *File) readComments(r *bufio.Reader) {
	head, _ := r.Peek(4 << 10) // what there is of it
	for line := range strings.Lines(string(head)) {
		line = strings.TrimRight(line, "\r\n")
		if v, ok := strings.CutPrefix(line, "-- Dumped from database version "); ok {
			f.Server = versionOf(v)
		}
		if v, ok := strings.CutPrefix(line, "-- Dumped by pg_dump version "); ok {
			f.Program = versionOf(v)
		}
	}
}

// openTar tells a dump of -Ft from the folder of one of -Fd in a tar, and unpacks the
// latter: pg_restore reads it as files.
func (f *File) openTar(r *bufio.Reader) error {
	c := &counted{r: r}
	t := tar.NewReader(c)
	h, err := t.Next()
	if err != nil {
		return f.tarError(err)
	}
	if h.Typeflag == tar.TypeReg && h.Name == tocName {
		f.Format = FormatTar
		// Those of -Fd may be in that order, too. They are compressed by themselves.
		if _, err := f.readHeader(t); err != nil {
			return err
		}
		next, err := t.Next()
		if err != nil {
			return f.tarError(err)
		}
		if !slices.Contains([]string{".gz", ".lz4", ".zst"}, path.Ext(next.Name)) {
			return f.checkWhole(t, c)
		}
	}
	return f.unpack()
}

// checkWhole reads the rest of a dump of -Ft, of which a header was read last. A tar that
// is cut short must not reach pg_restore: that of 15 reads one for ever.
func (f *File) checkWhole(t *tar.Reader, c *counted) error {
	for {
		n, err := io.Copy(io.Discard, io.LimitReader(t, f.maxBytes()+1))
		if err != nil {
			return f.tarError(err)
		}
		if n > f.maxBytes() || c.n > f.maxBytes() {
			return f.tooLarge()
		}
		before := c.n
		_, err = t.Next()
		if errors.Is(err, io.EOF) {
			if c.n-before < endOfTar { // two blocks, and what fills up the last file's
				return f.damaged("cut short: the tar does not end as one does")
			}
			return nil
		}
		if err != nil {
			return f.tarError(err)
		}
	}
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err //nolint:wrapcheck // the stream's own
}

func (f *File) tarError(err error) error {
	var known *pgmedic.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return f.damaged("cut short: the tar ends in the middle")
	}
	return f.damaged("damaged: the tar can't be read: %w", err)
}

// memberName matches the files of a dump of -Fd.
var memberName = regexp.MustCompile(`^(toc\.dat|(\d+|blob_\d+)\.dat(\.gz|\.lz4|\.zst)?|blobs(_\d+)?\.toc)$`)

func isMember(name string) bool { return memberName.MatchString(name) }

// maxMembers bounds the files of a dump: one for each table and large object.
const maxMembers = 1 << 20

// unpack writes the files of a dump of -Fd into a private folder.
func (f *File) unpack() (err error) {
	if f.o.Staging == nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "unpack it, and name the folder", "%s is a folder of pg_dump -Fd in a tar", f.o.Path)
	}
	s, err := f.openStored()
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // only read
	r, _, err := f.peel(s)
	if err != nil {
		return err
	}
	dir, remove, err := f.o.Staging()
	if err != nil {
		return err
	}
	f.remove = remove
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	// The staging folder has a file of its own.
	dir = filepath.Join(dir, "dump")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for the dump: %w", err)
	}
	tail := &zeros{r: r}
	if err := f.unpackInto(dir, tar.NewReader(tail)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tail); err != nil { // to the end of its layers
		return err
	}
	if tail.n < endOfTar {
		return f.damaged("cut short: the tar does not end as one does")
	}
	f.folder, f.Format = dir, FormatDirectory
	if _, err := os.Lstat(filepath.Join(dir, tocName)); err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "it reads the folder of one dump of pg_dump -Fd in a tar", "%s is a tar without a %s", f.o.Path, tocName)
	}
	return f.checkFolder(dir)
}

func (f *File) unpackInto(dir string, t *tar.Reader) error {
	parent, members, total := "", 0, int64(0)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return f.tarError(err)
		}
		if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		folder, name := path.Split(path.Clean(h.Name))
		if members++; members == 1 {
			parent = folder
		}
		if h.Typeflag != tar.TypeReg || !isMember(name) || folder != parent || members > maxMembers {
			return f.damaged("the tar holds something that is not a file of a dump by pg_dump -Fd")
		}
		if total += h.Size; total > f.maxBytes() {
			return f.tooLarge()
		}
		if err := refuseFull(dir, h.Size); err != nil {
			return fmt.Errorf("unpack %s: %w", f.o.Path, err)
		}
		if err := writeMember(filepath.Join(dir, name), t); err != nil {
			return f.tarError(err)
		}
	}
}

// writeMember writes one file. A name that is there twice is an error.
func writeMember(name string, r io.Reader) error {
	w, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindFailed, "check the folder for temporary files (TMPDIR)", "unpack the dump: %w", err)
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// spare is how much of a disk is left to others.
const spare = 64 << 20

// refuseFull refuses to write what a folder has no room for.
func refuseFull(dir string, size int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	free := int64(disk.Bavail) * int64(disk.Bsize) //nolint:unconvert // other types on other systems
	if free-spare >= size {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "free space there, or set TMPDIR to a folder that has it",
		"it takes %s more, and %s has %s free", words.Size(size), dir, words.Size(free))
}

// tooLarge is the error of a dump that grows beyond what was allowed.
func (f *File) tooLarge() error {
	return pgmedic.Errorf(pgmedic.KindFailed, "if it is really that large, allow it: --max-size 500GB",
		"%s grows beyond %s when it is unpacked, which is more than is allowed", f.o.Path, words.Size(f.maxBytes()))
}
