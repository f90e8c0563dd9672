package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// configured is a run with a configuration of the store, and what it prints.
func (b *walBench) configured(more string) (job, *bytes.Buffer) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "pgmedic.yaml")
	if err := os.WriteFile(file, []byte("server: clinic\nbackup: {store: "+b.dir+"}\n"+more), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{File: file, Dir: b.dir})
	if err != nil {
		b.t.Fatal(err)
	}
	out := &bytes.Buffer{}
	return job{env: &env{now: time.Now, stdout: out, stderr: io.Discard, rawOut: out}, cfg: cfg, log: slog.New(slog.DiscardHandler)}, out
}

// TestDeleteAndPITR: a base backup that retention.pitr needs is deleted only if that is said,
// and one that was found bad, or that nothing needs, at once.
func TestDeleteAndPITR(t *testing.T) {
	b := newWALBench(t)
	oldest, anchor := b.backups[0], b.backups[1] // 28 and 17 days old
	try := func(what, policy string, of *pgmedic.Backup, newest bool, refused string) {
		t.Helper()
		j, out := b.configured("retention: " + policy + "\n")
		cmd := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: of.ID, flags: deleteFlags{reason: "x", dryRun: true, newest: newest}}
		err := cmd.run(t.Context())
		if refused == "" {
			if err != nil || !strings.Contains(out.String(), "  delete  ") {
				t.Errorf("%s: %v\n%s", what, err, out)
			}
			return
		}
		if pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), refused) || !strings.Contains(pgmedic.HintOf(err), "--newest") {
			t.Errorf("%s: %v (%s)\n%s", what, err, pgmedic.HintOf(err), out)
		}
	}
	const promised, begins = "{pitr: 14d}", "recovery to any moment of the last 14d begins with it"
	try("nothing is promised", "{days: 1d}", anchor, false, "")
	try("before the window", promised, oldest, false, "")
	try("needed", promised, anchor, false, begins)
	try("needed, and it is said", promised, anchor, true, "")
	bad := &pgmedic.Receipt{Format: 1, Kind: pgmedic.ReceiptVerify, BackupID: anchor.ID, At: time.Now(), Outcome: pgmedic.OutcomeFailed, Proof: pgmedic.ProofFailed}
	if err := catalog.New(b.store).AddReceipt(t.Context(), anchor, bad, nil); err != nil {
		t.Fatal(err)
	}
	try("found bad", promised, anchor, false, "")
	try("in the place of a bad one", promised, oldest, false, begins)
}

// TestDeleteChain: what an incremental backup needs is not deleted before that, whatever is
// said, and the incremental one itself is.
func TestDeleteChain(t *testing.T) {
	b := newWALBench(t)
	full := b.backups[0]
	child := *full
	child.StartedAt = full.StartedAt.Add(24 * time.Hour)
	child.ID, child.SnapshotAt, child.FinishedAt = catalog.NewID(child.StartedAt), child.StartedAt, child.StartedAt
	p := *full.Physical
	p.Kind, p.Parent, p.Depth = pgmedic.PhysicalIncremental, full.ID, 1
	p.StartLSN, p.CheckpointLSN, p.StopLSN = (3*walBytes + 40).String(), (3*walBytes + 96).String(), (4 * walBytes).String()
	child.Physical, child.Server.Version, child.Server.VersionNum = &p, "17.6", 170006
	manifest := child.Objects[0]
	manifest.Name, manifest.Role, p.ServerManifestSHA256 = "pg_manifest.json", pgmedic.RoleServerManifest, manifest.SHA256
	child.Objects = append(slices.Clone(child.Objects), manifest)
	for _, o := range child.Objects {
		if _, err := b.store.Put(t.Context(), catalog.Key(&child, o.Name), strings.NewReader("the list of files")); err != nil {
			t.Fatal(err)
		}
	}
	if err := catalog.New(b.store).Commit(t.Context(), &child, nil); err != nil {
		t.Fatal(err)
	}
	for _, newest := range []bool{false, true} {
		for of, words := range map[string]string{full.ID: child.ID + " is incremental and needs it", child.ID: ""} {
			j, out := b.configured("")
			cmd := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: of, flags: deleteFlags{reason: "x", dryRun: true, newest: newest}}
			err := cmd.run(t.Context())
			if words == "" && err != nil || words != "" && (pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), words)) {
				t.Errorf("newest %t, want %q: %v\n%s", newest, words, err, out)
			}
		}
	}
	// Also one that is damaged: it can be mended from another store.
	if err := os.Truncate(filepath.Join(b.dir, filepath.FromSlash(catalog.Key(full, "manifest.json"))), 10); err != nil {
		t.Fatal(err)
	}
	j, _ := b.configured("")
	cmd := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: full.ID, flags: deleteFlags{reason: "x", dryRun: true}}
	if err := cmd.run(t.Context()); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), child.ID+" is incremental and needs it") {
		t.Errorf("a damaged one: %v", err)
	}
}

// TestDeleteDamaged: a backup whose manifest can't be used is deleted, unless it is held, and
// prune goes on with the WAL of its server.
func TestDeleteDamaged(t *testing.T) {
	eachBackup(t, deleteDamaged)
}

func deleteDamaged(t *testing.T, b *walBench, spoilt *pgmedic.Backup) {
	manifest := filepath.Join(b.dir, filepath.FromSlash(catalog.Key(spoilt, "manifest.json")))
	if err := os.Truncate(manifest, 10); err != nil {
		t.Fatal(err)
	}
	remove := func(dryRun bool) (string, error) {
		t.Helper()
		j, out := b.configured("")
		j.global.yes = true
		cmd := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: spoilt.ID, flags: deleteFlags{reason: "x", dryRun: dryRun}}
		err := cmd.run(t.Context())
		return out.String(), err
	}
	hold := filepath.Join(filepath.Dir(manifest), "hold-case.json")
	if err := os.WriteFile(hold, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := remove(false); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "it is held") {
		t.Errorf("held: %v\n%s", err, out)
	}
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	if out, err := remove(true); err != nil || !strings.Contains(out, "whose manifest can't be used") || b.count("/files.ndjson") != 3 {
		t.Errorf("the plan: %v\n%s", err, out)
	}
	if out, err := remove(false); err != nil || !strings.Contains(out, "deleted "+spoilt.ID) || b.count(spoilt.ID) != 0 || b.count("/files.ndjson") != 2 {
		t.Errorf("%v, %d objects are left of it\n%s", err, b.count(spoilt.ID), out)
	}
	if _, err := remove(false); pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("again: %v", err)
	}
	if out, err := b.prune("{days: 5d, last: 1, grace: 0s}", true); err != nil {
		t.Errorf("prune: %v\n%s", err, out)
	}
}

// TestDeleteDamagedAgain: a damaged backup that was mended, or is held, since it was found so
// is not deleted.
func TestDeleteDamagedAgain(t *testing.T) {
	eachBackup(t, deleteDamagedAgain)
}

func deleteDamagedAgain(t *testing.T, b *walBench, spoilt *pgmedic.Backup) {
	manifest := filepath.Join(b.dir, filepath.FromSlash(catalog.Key(spoilt, "manifest.json")))
	sound, err := os.ReadFile(manifest)
	if err == nil {
		err = os.Truncate(manifest, 10)
	}
	if err != nil {
		t.Fatal(err)
	}
	j, _ := b.configured("")
	cmd := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: spoilt.ID, flags: deleteFlags{reason: "x"}}
	at := cmd.retainer.readStores(t.Context(), catalog.Filter{Now: cmd.now()})
	defer at.close()
	rows, err := cmd.plan(t.Context(), at)
	if err != nil || len(rows) != 1 || len(rows[0].Kept) > 0 {
		t.Fatal(rows, err)
	}
	for file, content := range map[string][]byte{filepath.Join(filepath.Dir(manifest), "hold-case.json"): []byte("{}"), manifest: sound} {
		before, readErr := os.ReadFile(file)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := cmd.remove(t.Context(), at, rows); pgmedic.KindOf(err) != pgmedic.KindConflict || rows[0].Deleted || b.count("/"+spoilt.ID+"/files.ndjson") != 1 {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		if readErr != nil {
			err = os.Remove(file)
		} else {
			err = os.WriteFile(file, before, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeleteDamagedLocked: a damaged backup that its store locks is kept for that: a place that
// keeps versions would hide it, and say that it is deleted.
func TestDeleteDamagedLocked(t *testing.T) {
	eachBackup(t, deleteDamagedLocked)
}

func deleteDamagedLocked(t *testing.T, b *walBench, spoilt *pgmedic.Backup) {
	now := time.Now()
	row := deletedRow{Store: "a", ID: spoilt.ID, folder: catalog.Folder("clinic", "", spoilt.ID)}
	for name, c := range map[string]struct {
		lock  store.Lock
		err   error
		words string
	}{
		"locked":   {store.Lock{Mode: store.LockCompliance, Until: now.Add(time.Hour)}, nil, "locked until"},
		"not read": {store.Lock{}, errors.New("denied"), ""},
		"free":     {},
	} {
		j, _ := b.configured("")
		cmd := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: spoilt.ID}
		held := &heldStore{StoreOf: config.StoreOf{Name: "a", Locking: config.Locking{ObjectLock: "governance"}}, catalog: catalog.New(refusing{b.store, c.lock, c.err})}
		rows := []deletedRow{row}
		err := cmd.keptDamaged(t.Context(), retained{held}, rows)
		if (err != nil) != (c.err != nil) || err == nil && (len(rows[0].Kept) > 0) != (c.words != "") || !strings.Contains(strings.Join(rows[0].Kept, ""), c.words) {
			t.Errorf("%s: %q, %v", name, rows[0].Kept, err)
		}
	}
}

// TestCheckUnstreamed: those who take base backups and stream no WAL are told that in a line
// that is no warning; those who do neither are told nothing.
func TestCheckUnstreamed(t *testing.T) {
	b := newWALBench(t)
	check := func() []pgmedic.Check {
		t.Helper()
		j, _ := b.configured("")
		cmd := &checkCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}}
		l := &checklist{}
		cmd.checkWAL(t.Context(), l)
		if l.failed {
			t.Errorf("%+v", l.checks)
		}
		return l.checks
	}
	got := check()
	if len(got) != 1 || got[0].Outcome != pgmedic.OutcomeSkipped || !strings.Contains(got[0].Detail, "not streamed: 3 base backups") {
		t.Errorf("with base backups: %+v", got)
	}
	// Once something streams, all is said.
	e, err := b.a.Begin(t.Context(), archive.EpochOptions{
		Info: archive.EpochInfo{StartedAt: time.Now(), SegmentBytes: int64(walBytes), Timeline: 1, From: 31 * walBytes}, Seal: seal.Options{Compression: seal.CompressionZstd},
	})
	if err == nil {
		err = e.PutSeen(t.Context(), wal.Observation{Time: time.Now(), Timeline: 1, LSN: 31 * walBytes})
	}
	if err != nil {
		t.Fatal(err)
	}
	if got = check(); !slices.ContainsFunc(got, func(c pgmedic.Check) bool { return c.Name == "wal stored" && c.Outcome != pgmedic.OutcomeSkipped }) {
		t.Errorf("with a stream: %+v", got)
	}
	b.dir = t.TempDir()
	if got = check(); len(got) != 0 {
		t.Errorf("with neither: %+v", got)
	}
}
