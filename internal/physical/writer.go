package physical

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic"
)

// Writer writes a list of files. It holds a buffer, however many files there are. It checks
// nothing but what it can without memory; a Reader does the rest. It is not safe for
// concurrent use.
type Writer struct {
	out   *bufio.Writer
	json  *json.Encoder
	total end
}

// NewWriter begins the list of a backup.
func NewWriter(list io.Writer, b *pgmedic.Backup) (*Writer, error) {
	w := &Writer{out: bufio.NewWriterSize(list, 64<<10)}
	w.json = json.NewEncoder(w.out)
	w.json.SetEscapeHTML(false)
	return w, w.put(line{Format: formatOf(b), Backup: b.ID})
}

// formatOf is the format of a backup's list.
func formatOf(b *pgmedic.Backup) int {
	if b.Physical != nil && b.Physical.SQL != nil {
		return sqlListFormat
	}
	return listFormat
}

// Chunk writes a chunk, before any file that has bytes in it. IDs count from 0.
func (w *Writer) Chunk(c Chunk) error {
	if c.ID != w.total.Chunks {
		return fmt.Errorf("list the files: chunk %d in place of %d", c.ID, w.total.Chunks)
	}
	w.total.Chunks++
	return w.put(c)
}

// File writes a file or a folder, in the order of the server.
func (w *Writer) File(f File) error {
	if err := f.check(); err != nil {
		return err
	}
	w.total.Files++
	w.total.Bytes += f.heldBytes()
	f.Path = pgmedic.EscapeBytes(f.Path)
	return w.put(f)
}

// Close writes the end of the list and flushes it. It does not close what it writes to.
// It returns how many files were written, and their bytes, for the manifest.
func (w *Writer) Close() (files, plainBytes int64, err error) {
	if err := w.put(line{End: &w.total}); err != nil {
		return 0, 0, err
	}
	return w.total.Files, w.total.Bytes, w.out.Flush()
}

func (w *Writer) put(v any) error {
	if err := w.json.Encode(v); err != nil {
		return fmt.Errorf("list the files: %w", err)
	}
	return nil
}
