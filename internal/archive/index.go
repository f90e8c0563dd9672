package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	// indexFormat is the number in an index's first line.
	indexFormat = 1
	// IndexSegments is how many segments an object of the index has.
	IndexSegments = 64
	// fullIndexNotes is how many events fill one, and maxIndex what it may have of bytes: a
	// line is some 600 bytes, an event some 200, and a segment lists 10,000 of them at most.
	fullIndexNotes = 10000
	maxIndex       = 16 << 20
	// macSuffix is the end of the name of what authenticates an index, and sumSuffix that of
	// its SHA-256, which is all there is without encryption.
	macSuffix = ".hmac"
	sumSuffix = ".sha256"
)

// indexName matches an object of the index. Its proof has the number and one of the
// suffixes.
var (
	indexName = regexp.MustCompile(`^index/([0-9]{6,9})\.ndjson((?:\.gz|\.zst)?(?:\.age)?)$`)
	proofName = regexp.MustCompile(`^index/([0-9]{6,9})(\.hmac|\.sha256)$`)
)

func indexKey(seq int) string { return fmt.Sprintf("index/%06d", seq) }

// indexHead is the first line of an index: what it is, so that none can stand in the place
// of another.
type indexHead struct {
	Format           int    `json:"format"`
	SystemIdentifier string `json:"system_identifier"`
	Epoch            string `json:"epoch"`
	Seq              int    `json:"seq"`
	Segments         int    `json:"segments"`
}

// IndexLines returns how many of the summaries fill an object of the index, or 0 where
// they do not fill one.
func IndexLines(lines []wal.Summary) int {
	notes := 0
	for i, s := range lines {
		if notes += len(s.Notes); i+1 == IndexSegments || notes >= fullIndexNotes {
			return i + 1
		}
	}
	return 0
}

// PutIndex stores what the records of segments say, as the object of the index with the
// given number, from 0 on. Each number is used once in an epoch. The object counts only
// with what authenticates it, which is stored after it: by the epoch's own key, which the
// host that streams has for as long as it runs.
func (e *Epoch) PutIndex(ctx context.Context, seq int, lines []wal.Summary) error {
	text, err := e.indexText(seq, lines)
	if err != nil {
		return fmt.Errorf("write the index of the WAL: %w", err)
	}
	proof, suffix := indexSum(text), sumSuffix
	if e.seal.Key != nil {
		if proof, err = e.seal.Key.MAC(text); err != nil {
			return fmt.Errorf("authenticate the index of the WAL: %w", err)
		}
		suffix = macSuffix
	}
	if err := e.putSealed(ctx, indexKey(seq)+".ndjson", text); err != nil {
		return err
	}
	return e.put(ctx, indexKey(seq)+suffix, []byte(proof+"\n"))
}

func (e *Epoch) indexText(seq int, lines []wal.Summary) ([]byte, error) {
	var text bytes.Buffer
	w := json.NewEncoder(&text)
	err := w.Encode(indexHead{indexFormat, e.info.SystemIdentifier, e.info.ID, seq, len(lines)})
	for i := range lines {
		err = errors.Join(err, w.Encode(&lines[i]))
	}
	if err == nil && text.Len() > maxIndex {
		err = fmt.Errorf("%d segments take %d bytes", len(lines), text.Len())
	}
	return text.Bytes(), err
}

func indexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// SegmentSum returns a segment's plain bytes' SHA-256, as it stands in a wal.Summary.
func SegmentSum(plain []byte) string { return indexSum(plain) }

// indexObject is what a listing shows of an index.
type indexObject struct {
	seq    int
	seal   seal.Options
	stored bool // and not its proof alone
	proof  string
}

// noteIndex takes account of a name.
func (c *collected) noteIndex(epoch, name string) {
	m, suffix := indexName.FindStringSubmatch(name), ""
	if m == nil {
		if m = proofName.FindStringSubmatch(name); m == nil {
			return
		}
		suffix = m[2]
	}
	seq, err := strconv.Atoi(m[1])
	if err != nil || !strings.HasPrefix(name, indexKey(seq)+".") {
		return
	}
	if c.indexes[epoch] == nil {
		c.indexes[epoch] = map[int]indexObject{}
	}
	o := c.indexes[epoch][seq]
	o.seq = seq
	if suffix == "" {
		o.stored, o.seal = true, sealOf(m[2])
	} else if o.proof != macSuffix {
		o.proof = suffix
	}
	c.indexes[epoch][seq] = o
}

// index reads an object of the index.
func (f *Fetcher) index(ctx context.Context, epoch string, o indexObject) (lines []wal.Summary, err error) {
	how := o.seal
	if how.Key, err = f.key(ctx, epoch, how); err != nil {
		return nil, err
	}
	if (how.Key != nil) != (o.proof == macSuffix) {
		return nil, damaged("it is not authenticated")
	}
	name := epoch + "/" + indexKey(o.seq)
	proof, err := f.a.read(ctx, name+o.proof, maxSmall)
	if err != nil {
		return nil, err
	}
	r, err := f.a.store.Open(ctx, f.a.folder+name+".ndjson"+seal.Suffix(how), 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	opened, err := seal.NewUnrecordedReader(r, maxIndex, how)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	text, err := io.ReadAll(opened)
	if err != nil {
		return nil, err
	}
	if how.Key != nil {
		if how.Key.CheckMAC(text, string(proof)) != nil {
			return nil, damaged("it was not written by the host that stored the WAL, or is damaged")
		}
	} else if strings.TrimSpace(string(proof)) != indexSum(text) {
		return nil, damaged("it is damaged")
	}
	return parseIndex(text, indexHead{indexFormat, strconv.FormatUint(f.a.system, 10), epoch, o.seq, 0})
}

// parseIndex reads an index that must have the given first line, but for the number of
// segments.
func parseIndex(text []byte, want indexHead) (lines []wal.Summary, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	var head indexHead
	if err := d.Decode(&head); err != nil {
		return nil, damaged("its first line is damaged")
	}
	if head.Format > indexFormat {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic on this host", "it has format %d, and this version reads up to %d", head.Format, indexFormat)
	}
	if want.Segments = head.Segments; head != want {
		return nil, damaged("it is another index than its name says")
	}
	for {
		var line wal.Summary
		err := d.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(line.SHA256) != 2*sha256.Size {
			return nil, damaged("a line of it is damaged")
		}
		lines = append(lines, line)
	}
	if len(lines) != head.Segments {
		return nil, damaged("it has %d lines, and should have %d", len(lines), head.Segments)
	}
	return lines, nil
}
