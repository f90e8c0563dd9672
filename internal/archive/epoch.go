package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/pipe"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	// epochFormat is the number of epoch.json.
	epochFormat = 1
	epochFile   = "epoch.json"
	// maxSmall is what epoch.json, a gap, or a wrapped key may have.
	maxSmall = 64 << 10
)

// EpochInfo is what is stored of an epoch: one run of what writes WAL, or a day of it.
// All that it stores is encrypted to one key.
type EpochInfo struct {
	// Format is 1.
	Format int `json:"format"`
	// ID is made as that of a backup.
	ID string `json:"id"`
	// StartedAt is when it began, on Host.
	StartedAt time.Time `json:"started_at"`
	Host      string    `json:"host"`
	// Program is the version of pgmedic.
	Program string `json:"program"`
	// SystemIdentifier is that of the cluster, in decimal digits.
	SystemIdentifier string `json:"system_identifier"`
	// ServerVersion is PostgreSQL's.
	ServerVersion string `json:"server_version"`
	// SegmentBytes is the size of a segment of the cluster's WAL.
	SegmentBytes int64 `json:"segment_bytes"`
	// Timeline and From are where it began.
	Timeline wal.Timeline `json:"timeline"`
	From     wal.LSN      `json:"from"`
	// Writer is push for WAL that the server hands over segment by segment, and empty
	// for a stream of it.
	Writer string `json:"writer,omitempty"`
	// MaxDelaySeconds is how long WAL that has arrived may take until it begins to be
	// stored.
	MaxDelaySeconds float64 `json:"max_delay_seconds"`
}

// WriterPush is the writer of an epoch of `pgmedic wal push`: several processes, each of
// which stores a segment, in any order.
const WriterPush = "push"

// segmentSize returns the size of segments, or an error for an epoch that is none.
func (i *EpochInfo) segmentSize(id string, system uint64) (wal.SegmentSize, error) {
	size := wal.SegmentSize(max(i.SegmentBytes, 0))
	switch {
	case i.Format > epochFormat:
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic on this host", "epoch %s of the WAL has format %d, and this version reads up to %d", id, i.Format, epochFormat)
	case i.Format != epochFormat, i.ID != id, i.SystemIdentifier != strconv.FormatUint(system, 10), !size.Valid():
		return 0, damaged("%s of epoch %s of the WAL is damaged", epochFile, id)
	}
	return size, nil
}

// EpochOptions say what an epoch is.
type EpochOptions struct {
	// Info has everything but Format, ID and SystemIdentifier.
	Info EpochInfo
	// Seal says how objects are sealed; its Key is not used. With encryption the epoch
	// gets a key of its own, which is stored for each of Wraps.
	Seal  seal.Options
	Wraps []seal.Wrap
	// Signer signs epoch.json, which says who writes the epoch. Nil signs nothing. What is
	// stored in the epoch is not signed.
	Signer *signature.Key
}

// Epoch stores WAL. Its methods may be called at the same time.
type Epoch struct {
	a    *Archive
	info EpochInfo
	size wal.SegmentSize
	seal seal.Options
}

// Begin begins an epoch: its key is stored first, and nothing is put into the store that
// could not be opened.
func (a *Archive) Begin(ctx context.Context, o EpochOptions) (*Epoch, error) {
	info := o.Info
	info.Format, info.ID, info.SystemIdentifier = epochFormat, catalog.NewID(info.StartedAt), strconv.FormatUint(a.system, 10)
	size, err := info.segmentSize(info.ID, a.system)
	if err != nil {
		return nil, err
	}
	e := &Epoch{a: a, info: info, size: size, seal: o.Seal}
	switch o.Seal.Encryption {
	case seal.EncryptionAge:
		if err := e.makeKey(ctx, o.Wraps); err != nil {
			return nil, err
		}
		failpoint.Hit(ctx, "wal-epoch-key")
	case "", seal.EncryptionNone:
		e.seal.Key = nil
	default:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set backup.encryption to age", "WAL is not encrypted with %s", o.Seal.Encryption)
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", epochFile, err)
	}
	text = append(text, '\n')
	if o.Signer != nil {
		if err := a.signed(info.ID, text).Put(ctx, o.Signer); err != nil {
			return nil, fmt.Errorf("sign epoch %s of the WAL: %w", info.ID, err)
		}
	}
	return e, e.put(ctx, epochFile, text)
}

// signed is epoch.json as what is signed.
func (a *Archive) signed(id string, text []byte) signature.Manifest {
	return signature.Manifest{Store: a.store, Folder: a.folder + id, ID: id, Data: text}
}

// Signing says who of the signers signed an epoch.
func (a *Archive) Signing(ctx context.Context, id string, by signature.Signers) (signature.Signing, error) {
	text, err := a.read(ctx, id+"/"+epochFile, maxSmall)
	if err != nil {
		return signature.Signing{}, fmt.Errorf("read epoch %s of the WAL: %w", id, err)
	}
	return a.signed(id, text).Signing(ctx, by)
}

func (e *Epoch) makeKey(ctx context.Context, wraps []seal.Wrap) (err error) {
	e.seal.Key, err = seal.NewWrapped(wraps, func(name string, wrapped []byte) error {
		return e.put(ctx, "keys/"+catalog.EscapeName(name)+".age", wrapped)
	})
	if err != nil {
		return fmt.Errorf("store the key of an epoch of the WAL: %w", err)
	}
	return nil
}

// ID returns the epoch's id.
func (e *Epoch) ID() string { return e.info.ID }

// PutSegment stores a whole segment. That it is there already, with the same bytes, is no
// error.
func (e *Epoch) PutSegment(ctx context.Context, s wal.Segment, plain []byte) error {
	if len(plain) != int(e.size) || e.size.Start(s.Start) != s.Start {
		return fmt.Errorf("store segment %s: %d bytes are not a segment", e.size.Name(s), len(plain))
	}
	return e.putSealed(ctx, segmentPrefix(e.size, s)+hashOf(plain).String(), plain)
}

// PutTail stores the bytes of a segment that is still growing from a position within it
// on.
func (e *Epoch) PutTail(ctx context.Context, s wal.Segment, from int, plain []byte) error {
	to := from + len(plain)
	if from < 0 || len(plain) == 0 || to > int(e.size) {
		return fmt.Errorf("store the tail of segment %s: no bytes from %d to %d", e.size.Name(s), from, to)
	}
	return e.putSealed(ctx, fmt.Sprintf("%s%08X-%08X-%s", tailPrefix(e.size, s), from, to, hashOf(plain)), plain)
}

// PutHistory stores the history of a timeline. That it is there already is not an error, and
// another one of that timeline is a pgmedic.KindConflict error.
func (e *Epoch) PutHistory(ctx context.Context, t wal.Timeline, text []byte) error {
	h, err := wal.ParseHistory(t, text)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "", "store a history: %w", err)
	}
	if err := e.put(ctx, historyKey(t), text); err != nil {
		return err
	}
	// Its name does not say what is in it.
	there, err := e.a.readHistory(ctx, e.info.ID, t)
	if err == nil && !slices.Equal(there.Switches, h.Switches) {
		err = pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one, and give the other a name of its own (--server)",
			"the history of timeline %d is stored with different content: two servers were promoted", t)
	}
	return err
}

// PutSeen stores that by its own clock a server's WAL ended at a position.
func (e *Epoch) PutSeen(ctx context.Context, o wal.Observation) error {
	name := fmt.Sprintf("seen/%s-%08X-%016X.json", o.Time.UTC().Format(seenTime), uint32(o.Timeline), uint64(o.LSN))
	return e.put(ctx, name, []byte("{}\n"))
}

// PutBase stores that a base backup was taken of the server, as its WAL says. It does not
// say where that backup is, or whether it is still there.
func (e *Epoch) PutBase(ctx context.Context, b wal.Base) error {
	return e.put(ctx, fmt.Sprintf("base/%08X-%016X-%016X.json", uint32(b.Timeline), uint64(b.Start), uint64(b.Stop)), []byte("{}\n"))
}

// PutGap stores that WAL of a timeline is lost, and why: words that hold no data.
func (e *Epoch) PutGap(ctx context.Context, g wal.Gap, now time.Time) error {
	text, err := json.Marshal(map[string]any{"at": now.UTC(), "reason": g.Why})
	if err != nil {
		return fmt.Errorf("store a gap: %w", err)
	}
	return e.put(ctx, fmt.Sprintf("gap/%08X-%016X-%016X.json", uint32(g.Timeline), uint64(g.From), uint64(g.To)), append(text, '\n'))
}

// putSealed stores plain bytes, which are sealed while they are stored: a segment is large,
// and its sealed bytes are not held besides.
func (e *Epoch) putSealed(ctx context.Context, name string, plain []byte) error {
	name += seal.Suffix(e.seal)
	err := pipe.Put(ctx, e.a.store, e.a.folder+e.info.ID+"/"+name, name+" of the WAL", func(_ context.Context, dst io.Writer) error {
		w, err := seal.NewWriter(dst, e.seal)
		if err == nil {
			_, err = w.Write(plain)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return fmt.Errorf("seal %s: %w", name, err)
		}
		return nil
	})
	if errors.Is(err, store.ErrExists) {
		return nil // as put says
	}
	return err
}

// put stores bytes. An object of that name is one of an earlier attempt, whose answer
// was lost: the name says what is in it, and objects are whole.
func (e *Epoch) put(ctx context.Context, name string, b []byte) error {
	_, err := e.a.store.Put(ctx, e.a.folder+e.info.ID+"/"+name, bytes.NewReader(b))
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store %s of the WAL: %w", name, err)
	}
	return nil
}

func hashOf(plain []byte) (h hash) {
	sum := sha256.Sum256(plain)
	copy(h[:], sum[:])
	return h
}

// readEpoch reads what is stored of an epoch.
func (a *Archive) readEpoch(ctx context.Context, id string) (EpochInfo, error) {
	var info EpochInfo
	text, err := a.read(ctx, id+"/"+epochFile, maxSmall)
	if err != nil {
		return info, fmt.Errorf("read epoch %s of the WAL: %w", id, err)
	}
	if json.Unmarshal(text, &info) != nil {
		return info, damaged("%s of epoch %s of the WAL is damaged", epochFile, id)
	}
	_, err = info.segmentSize(id, a.system)
	return info, err
}

// read returns a small object.
func (a *Archive) read(ctx context.Context, name string, most int64) ([]byte, error) {
	r, err := a.store.Open(ctx, a.folder+name, 0, -1)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err = errors.Join(err, r.Close()); err == nil && int64(len(b)) > most {
		err = damaged("%s is larger than %d bytes", name, most)
	}
	return b, err
}
