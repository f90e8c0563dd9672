package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

// anchorFormat is the format number of a stored anchor, with the same rules as that of a
// manifest.
const anchorFormat = 1

// StoredAnchor is an anchor as it is stored by itself, in a store of backups.
type StoredAnchor struct {
	Format int `json:"format"`
	pgmedic.AuditAnchor
}

// MaxAnchorBytes bounds a stored anchor.
const MaxAnchorBytes = 16 << 10

// Encode writes an anchor as it is stored.
func (a StoredAnchor) Encode() ([]byte, error) {
	a.Format = anchorFormat
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(a); err != nil {
		return nil, fmt.Errorf("encode an anchor of the audit log: %w", err)
	}
	return b.Bytes(), nil
}

// ParseAnchor reads a stored anchor. It does not authenticate it; Verify does.
func ParseAnchor(data []byte) (StoredAnchor, error) {
	var a StoredAnchor
	if err := json.Unmarshal(data, &a); err != nil || a.Format < 1 {
		return a, errors.New("is not an anchor of an audit log")
	}
	if a.Format > anchorFormat {
		return a, errors.New("is an anchor that a newer pgmedic made")
	}
	return a, nil
}

// anchorText is what an anchor's MAC authenticates. No text can hold a newline that would
// make it that of another anchor: all but file and host are digits, the file is quoted, and
// the host comes last. The first line tells those with a file from others.
func anchorText(a pgmedic.AuditAnchor) string {
	lines := []string{"pgmedic audit anchor", a.Log, strconv.FormatInt(a.Seq, 10), a.Hash, a.At.UTC().Format(time.RFC3339Nano), a.Host}
	if a.File != "" {
		lines = slices.Insert(lines, 1, strconv.Quote(a.File))
		lines[0] = "pgmedic audit anchor of a file"
	}
	return strings.Join(lines, "\n")
}

func (k Key) anchor(log, file string, r Record, host string, at time.Time) pgmedic.AuditAnchor {
	a := pgmedic.AuditAnchor{Host: clean(host), Log: log, File: file, Seq: r.Seq, Hash: r.Hash, At: at.UTC().Truncate(time.Second)}
	a.MAC = k.mac(anchorText(a))
	return a
}

// authenticates reports whether an anchor was made with the key. Older versions stored a
// file beside what they authenticated.
func (k Key) authenticates(a pgmedic.AuditAnchor) bool {
	if hmac.Equal([]byte(k.mac(anchorText(a))), []byte(a.MAC)) {
		return true
	}
	a.File = ""
	return hmac.Equal([]byte(k.mac(anchorText(a))), []byte(a.MAC))
}

// file is what the current file is called in anchors.
func (l *Log) file() string { return clean(l.o.Path) }

// Head returns an anchor of the log's last record. It is false where the log has not
// begun, and then begins nothing. Where run itself began the log, the anchor has no File.
func (l *Log) Head(ctx context.Context, run string) (pgmedic.AuditAnchor, bool, error) {
	names, err := fileNames(l.o.Path)
	if err != nil || len(names) == 0 {
		return pgmedic.AuditAnchor{}, false, err
	}
	var a pgmedic.AuditAnchor
	err = l.locked(ctx, func(key Key) error {
		s, err := l.state(key)
		file := l.file()
		if s.first.Seq == 1 && s.first.Run == run {
			file = ""
		}
		a = key.anchor(s.log, file, s.last, l.o.Host, l.o.Now())
		return err
	})
	return a, err == nil, err
}

// Anchoring is what the current file says of the log's head in one store.
type Anchoring struct {
	// At is when it was last stored, Tried when that was last tried and failed.
	At, Tried time.Time
}

// Anchored returns when the log's head was last stored in each store, as far as the
// current file says. Fresh is true where the run itself began that file: a log that lives
// no longer than a run, as in a container, needs no anchor in a store.
func (l *Log) Anchored(ctx context.Context, run string) (in map[string]Anchoring, fresh bool, err error) {
	in = map[string]Anchoring{}
	err = l.locked(ctx, func(key Key) error {
		names, err := fileNames(l.o.Path)
		if err != nil || len(names) == 0 || names[len(names)-1] != l.o.Path {
			return err
		}
		f, err := openSized(l.o.Path)
		if err != nil {
			return err
		}
		defer f.close()
		return eachLine(f.reader(), func(n int, text []byte, _ bool) error {
			if n > 1 && !bytes.Contains(text, []byte(ActionAnchor)) {
				return nil
			}
			if r, err := parse(text, key); err == nil { // any other is for Verify to find
				fresh = fresh || n == 1 && r.Run == run
				noteAnchoring(in, r)
			}
			return nil
		})
	})
	return in, fresh, err
}

// noteAnchoring keeps what a record says of an anchor.
func noteAnchoring(in map[string]Anchoring, r Record) {
	switch {
	case r.Action != ActionAnchor:
	case r.Outcome == OutcomeDone:
		in[r.Object] = Anchoring{At: r.At}
	default:
		in[r.Object] = Anchoring{At: in[r.Object].At, Tried: r.At}
	}
}

// NoteAnchor records that an anchor was stored: in the store that the configuration calls
// name, which is at place.
func (l *Log) NoteAnchor(ctx context.Context, e Entry, name, place string, a pgmedic.AuditAnchor) error {
	e.Action, e.Object, e.Outcome = ActionAnchor, name, OutcomeDone
	e.Params = map[string]string{"seq": strconv.FormatInt(a.Seq, 10), "hash": a.Hash, "place": place}
	_, err := l.Append(ctx, e)
	return err
}

// NoteUnanchored records that no anchor could be stored in a store, and the kind of the
// error, so that not every run waits for that store.
func (l *Log) NoteUnanchored(ctx context.Context, e Entry, name string, kind pgmedic.Kind) error {
	e.Action, e.Object, e.Outcome = ActionAnchor, name, kind.String()
	_, err := l.Append(ctx, e)
	return err
}
