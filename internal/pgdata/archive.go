package pgdata

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Entry is a file or a folder of a base backup.
type Entry struct {
	// Path is relative to the data directory.
	Path      string
	Folder    bool
	SizeBytes int64
	// Mode is the permission bits.
	Mode       fs.FileMode
	ModifiedAt time.Time
	// ChangedAt is when the inode was changed; zero where that is not known, as in an archive.
	ChangedAt time.Time
}

// maxEntryBytes bounds the size of a file.
const maxEntryBytes = 1 << 60

// Files calls f for each file and folder of an archive of a base backup: that of the
// tablespace with an OID, or of the data directory, whose OID here is 0. content is the
// file's; what f leaves of it is skipped. An error of f ends it and is returned as it is.
func Files(archive io.Reader, tablespace uint32, f func(e Entry, content io.Reader) error) error {
	root := ""
	if tablespace != 0 {
		root = "pg_tblspc/" + strconv.FormatUint(uint64(tablespace), 10) + "/"
	}
	// Its errors are told from those of the connection.
	source := &source{r: archive}
	in := tar.NewReader(source)
	for {
		h, err := in.Next()
		switch {
		case source.err != nil:
			return source.err
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errNotTar
		}
		e, err := entryOf(h, root)
		if err != nil {
			return err
		}
		if e.Path == "" { // the folder itself
			continue
		}
		if err := f(e, &content{in, source}); err != nil {
			return err
		}
	}
}

var errNotTar = errors.New("the server sent an archive that can't be read")

// entryOf checks what an archive says of a file.
func entryOf(h *tar.Header, root string) (Entry, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
	e := Entry{Path: root + name, SizeBytes: h.Size, Mode: h.FileInfo().Mode() & fs.ModePerm, ModifiedAt: h.ModTime}
	switch h.Typeflag {
	case tar.TypeDir:
		e.Folder, e.SizeBytes = true, 0
	case tar.TypeReg:
	default:
		return e, fmt.Errorf("the server sent %.80q as a link or a special file", e.Path)
	}
	if name == "" || name == "." {
		if !e.Folder {
			return e, fmt.Errorf("the server sent a file without a name")
		}
		e.Path = ""
		return e, nil
	}
	if path.Clean(name) != name || strings.HasPrefix(name, "/") || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0) {
		return e, fmt.Errorf("the server sent a file named %.80q", h.Name)
	}
	if e.SizeBytes < 0 || e.SizeBytes > maxEntryBytes {
		return e, fmt.Errorf("the server sent a file of %d bytes", e.SizeBytes)
	}
	return e, nil
}

// source remembers the error of what is read.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// content is a file's.
type content struct {
	in     *tar.Reader
	source *source
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	switch {
	case c.source.err != nil:
		err = c.source.err
	case err != nil && err != io.EOF: // tar returns it bare, and io.ErrUnexpectedEOF for an archive that is cut
		err = errNotTar
	}
	return n, err
}
