package walpush

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// epochAge is how long pushes go on with one epoch.
const epochAge = 24 * time.Hour

// remembered is what a push leaves for the next one. Nothing of it is secret; but anyone
// who could change it could have WAL encrypted to a key of theirs, so it is never read from
// the store.
type remembered struct {
	Epoch     string    `json:"epoch"`
	StartedAt time.Time `json:"started_at"`
	// PublicKey is that of the epoch, or empty where nothing is encrypted.
	PublicKey string `json:"public_key"`
}

// stateFile is the file of a place, a cluster, and the ways to open its WAL: where one of
// them changes, another epoch begins.
func (p *pusher) stateFile(size wal.SegmentSize) string {
	names := make([]string, 0, len(p.Wraps))
	for _, w := range p.Wraps {
		names = append(names, w.Name)
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(append(names, p.Store.String(), p.archive.Folder(), string(p.Seal.Encryption), fmt.Sprint(size)), "\n")))
	return filepath.Join(p.State, hex.EncodeToString(sum[:8])+".json")
}

// epoch is the one of the day. Pushes at the same time may begin one each, which does no
// harm.
func (p *pusher) epoch(ctx context.Context, size wal.SegmentSize, t wal.Timeline, from wal.LSN) (*archive.Epoch, error) {
	if r, ok := p.recall(size); ok {
		how := p.Seal
		var err error
		if how.Key = nil; r.PublicKey != "" {
			how.Key, err = seal.PublicKey(r.PublicKey)
		}
		if err == nil {
			epoch, err := p.archive.Continue(ctx, r.Epoch, how)
			gone := errors.Is(err, store.ErrNotFound) || pgmedic.KindOf(err) == pgmedic.KindIntegrity
			// What the store says of the epoch may be somebody else's.
			if err == nil && epoch.Info().SegmentBytes == int64(size) || err != nil && !gone {
				return epoch, err
			}
		}
	}
	var signer *signature.Key
	if p.Signer != nil {
		var err error
		if signer, err = p.Signer(ctx); err != nil {
			return nil, err
		}
	}
	epoch, err := p.archive.Begin(ctx, archive.EpochOptions{
		Info: archive.EpochInfo{
			StartedAt: p.Now().UTC(), Host: p.Host, Program: p.Version, ServerVersion: p.serverVersion(),
			SegmentBytes: int64(size), Timeline: t, From: from, Writer: archive.WriterPush,
		},
		Seal: p.Seal, Wraps: p.Wraps, Signer: signer,
	})
	if err != nil {
		return nil, err
	}
	if err := p.histories(ctx, epoch); err != nil {
		return nil, err
	}
	p.remember(size, epoch)
	return epoch, nil
}

// recall reads which epoch an earlier push began.
func (p *pusher) recall(size wal.SegmentSize) (r remembered, ok bool) {
	if p.State == "" {
		return r, false
	}
	text, err := os.ReadFile(p.stateFile(size))
	if err != nil || json.Unmarshal(text, &r) != nil || !archive.IsEpoch(r.Epoch) {
		return r, false
	}
	age := p.Now().Sub(r.StartedAt)
	encrypted := p.Seal.Encryption == seal.EncryptionAge
	return r, age >= 0 && age < epochAge && encrypted == (r.PublicKey != "")
}

// remember leaves the epoch for the next push. Where that can't be, that one begins another.
func (p *pusher) remember(size wal.SegmentSize, epoch *archive.Epoch) {
	if p.State == "" {
		p.Logger.Warn("each push begins an epoch of its own, because there is no folder in which to remember one", "hint", "set HOME or XDG_STATE_HOME in the server's environment")
		return
	}
	text, err := json.Marshal(remembered{Epoch: epoch.ID(), StartedAt: epoch.Info().StartedAt, PublicKey: epoch.Recipient()})
	if err == nil {
		err = os.MkdirAll(p.State, 0o700)
	}
	var f *os.File
	if err == nil {
		f, err = os.CreateTemp(p.State, ".epoch-*")
	}
	if err == nil {
		_, err = f.Write(append(text, '\n'))
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), p.stateFile(size))
		}
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}
	if err != nil {
		p.Logger.Warn("each push begins an epoch of its own, because the epoch can't be remembered", "error", err)
	}
}

// histories stores those that the server has: each epoch has those of all timelines.
func (p *pusher) histories(ctx context.Context, epoch *archive.Epoch) error {
	files, err := filepath.Glob(filepath.Join(escapeGlob(filepath.Dir(p.Path)), "*.history"))
	if err != nil {
		return err
	}
	for _, file := range files {
		t, err := wal.ParseHistoryName(filepath.Base(file))
		if err != nil {
			continue
		}
		text, err := readSmall(file, wal.MaxHistoryBytes)
		if errors.Is(err, os.ErrNotExist) {
			continue // the server removed it
		}
		if err == nil {
			err = epoch.PutHistory(ctx, t, text)
		}
		if err != nil {
			return fmt.Errorf("store the history of timeline %d: %w", t, err)
		}
	}
	return nil
}

// escapeGlob has a folder's name mean itself in a pattern.
func escapeGlob(folder string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(folder)
}

// serverVersion is the major version of the data directory, or empty where it is not known.
func (p *pusher) serverVersion() string {
	text, err := readSmall(filepath.Join(filepath.Dir(filepath.Dir(p.Path)), "PG_VERSION"), 64)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
