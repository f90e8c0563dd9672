package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A log is a current file and, beside it, one file for each month before:
// audit.jsonl, audit-2026-10-000000001.jsonl. The month is that of the first record,
// the number its Seq.

// archive is a file of an earlier month.
type archive struct {
	path  string
	month time.Time
	first int64
}

// archives returns the files of earlier months, oldest first.
func archives(path string) ([]archive, error) {
	ext := filepath.Ext(path)
	stem := strings.TrimSuffix(filepath.Base(path), ext)
	form := regexp.MustCompile(`^` + regexp.QuoteMeta(stem) + `-(\d{4}-\d{2})-(\d{9,18})` + regexp.QuoteMeta(ext) + `$`)
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the files of the audit log: %w", err)
	}
	var all []archive
	for _, e := range entries {
		m := form.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		month, err := time.Parse("2006-01", m[1])
		first, numErr := strconv.ParseInt(m[2], 10, 64)
		if err != nil || numErr != nil {
			continue
		}
		all = append(all, archive{path: filepath.Join(filepath.Dir(path), e.Name()), month: month, first: first})
	}
	slices.SortFunc(all, func(a, b archive) int {
		return cmp.Or(cmp.Compare(a.first, b.first), strings.Compare(a.path, b.path))
	})
	return all, nil
}

// archiveName is the name of the current file once its month is over.
func archiveName(path string, first Record) string {
	ext := filepath.Ext(path)
	return fmt.Sprintf("%s-%s-%09d%s", strings.TrimSuffix(path, ext), first.At.UTC().Format("2006-01"), first.Seq, ext)
}

// fileNames returns the files of a log in the order of their records.
func fileNames(path string) ([]string, error) {
	old, err := archives(path)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, a := range old {
		all = append(all, a.path)
	}
	if _, err := os.Lstat(path); err == nil {
		all = append(all, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return all, nil
}

// errLongLine is a line that no record is as long as.
var errLongLine = errors.New("is longer than any record")

// eachLine calls line for each line, without its newline, counted from 1; ended is false
// for a last line that has none. Too long a line ends it with errLongLine.
func eachLine(from io.Reader, line func(n int, text []byte, ended bool) error) error {
	r := bufio.NewReaderSize(from, maxLine)
	for n := 1; ; n++ {
		text, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return errLongLine
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read the audit log: %w", err)
		case err != nil && len(text) == 0:
			return nil
		}
		ended := err == nil
		if lineErr := line(n, bytes.TrimSuffix(text, []byte("\n")), ended); lineErr != nil || !ended {
			return lineErr
		}
	}
}

// mostTorn bounds what writers that were killed one after another can have left at the end
// of a file, with the record before it.
const mostTorn = 16 * maxLine

// ends returns the first line of a file, nil where there is none, and its last part.
func ends(f *os.File) (first, tail []byte, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, 0, err
	}
	size = info.Size()
	read := func(from, length int64) ([]byte, error) {
		b := make([]byte, length)
		n, err := f.ReadAt(b, from)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return b[:n], err
	}
	head, err := read(0, min(size, maxLine))
	if err != nil {
		return nil, nil, size, err
	}
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		first = head[:i]
	}
	tail, err = read(max(0, size-mostTorn), min(size, mostTorn))
	return first, tail, size, err
}

// lastRecord returns the last record in the tail of a file that is proven, and what
// follows its line. Only lines that writers did not finish may follow it; any other is an
// error, which says what is wrong with the last whole line.
func lastRecord(tail []byte, key Key) (last Record, rest []byte, err error) {
	err = errNotRecord
	for end, n := bytes.LastIndexByte(tail, '\n'), 0; end >= 0; n++ {
		start := bytes.LastIndexByte(tail[:end], '\n') + 1
		line := tail[start:end]
		r, lineErr := parse(line, key)
		if lineErr == nil {
			return r, tail[end+1:], nil
		}
		if n == 0 {
			err = lineErr
		}
		if !unfinished(line) {
			break
		}
		end = start - 1
	}
	return Record{}, nil, err
}

// unfinished reports whether a line may be the beginning of a record, and is no more. One
// that is whole, and wrong, was not left by a writer.
func unfinished(line []byte) bool { return len(line) > 0 && !json.Valid(line) }
