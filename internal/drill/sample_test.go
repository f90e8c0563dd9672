package drill_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/test/fixture"
)

var night = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

// stored is a backup of objects of the given sizes, finished some days later.
func stored(day int, encryption string, sizes ...int64) catalog.Entry {
	b := &pgmedic.Backup{FinishedAt: night.AddDate(0, 0, day), Seal: pgmedic.Seal{Encryption: encryption}}
	b.ID = catalog.NewID(b.FinishedAt)
	for i, size := range sizes {
		b.Objects = append(b.Objects, pgmedic.Object{Name: fmt.Sprintf("pack-%04d", i+1), Role: pgmedic.RolePack, StoredBytes: size})
	}
	return catalog.Entry{Backup: b}
}

// sampleRun chooses, and adds the receipts of what it chose.
func sampleRun(o drill.SampleOptions, degree pgmedic.Proof) (parts []*drill.SamplePart, bytes int64) {
	parts = drill.ChooseSample(o)
	for i, part := range parts {
		if part == nil {
			continue
		}
		r := pgmedic.Receipt{Kind: pgmedic.ReceiptVerify, At: o.Now, Store: o.Store, Sample: &pgmedic.Sample{Degree: degree}}
		for _, object := range part.Objects {
			bytes += object.StoredBytes
			r.Checks = append(r.Checks, pgmedic.Check{Name: object.Name})
		}
		o.Entries[i].Receipts = append(o.Entries[i].Receipts, r)
	}
	return parts, bytes
}

func yes(*pgmedic.Backup) bool { return true }
func no(*pgmedic.Backup) bool  { return false }

// TestSampleCoversAll: run night after night, with a new backup each night, every
// object of every backup is read, each run reads its share, and no object is
// read again long before another's turn.
func TestSampleCoversAll(t *testing.T) {
	for _, percent := range []float64{0.5, 5, 33, 100} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			var entries []catalog.Entry
			for n := range 30 {
				entries = append(entries, stored(n-30, "none", 100, 7, 256, 256, int64(n)))
			}
			last := map[string]int{}
			const days = 40
			for day := range days {
				if day < 10 { // and the rotation gets through all the same
					entries = append(entries, stored(day, "none", 100, 7, 256, 256, 1))
				}
				var total int64
				for _, e := range entries {
					total += e.Backup.StoredBytes()
				}
				o := drill.SampleOptions{Entries: entries, Percent: percent, Store: "here", HasKey: yes, Now: night.AddDate(0, 0, day).Add(time.Hour)}
				parts, bytes := sampleRun(o, pgmedic.ProofVerified)
				if want := float64(total) * percent / 100; float64(bytes) < want || float64(bytes) > want+256 {
					t.Fatalf("day %d: %d bytes of %d are chosen", day, bytes, total)
				}
				for i, part := range parts {
					if part != nil {
						for _, object := range part.Objects {
							last[entries[i].Backup.ID+object.Name] = day + 1
						}
					}
				}
			}
			if percent < 5 {
				return // not yet through
			}
			for _, e := range entries {
				for _, object := range e.Backup.Objects {
					if at := last[e.Backup.ID+object.Name]; at == 0 || days-at > int(100/percent)+2 {
						t.Errorf("%s of %s was last read on day %d of %d", object.Name, e.Backup.ID, at, days)
					}
				}
			}
		})
	}
}

// TestSampleCounts: what counts as read.
func TestSampleCounts(t *testing.T) {
	now := night.AddDate(0, 0, 10)
	receipt := func(kind pgmedic.ReceiptKind, store string, at time.Time, proof pgmedic.Proof) pgmedic.Receipt {
		return pgmedic.Receipt{Kind: kind, At: at, Store: store, Proof: proof, Checks: []pgmedic.Check{{Name: "pack-0001"}}}
	}
	yesterday := now.AddDate(0, 0, -1)
	for name, test := range map[string]struct {
		encryption string
		hasKey     func(*pgmedic.Backup) bool
		receipt    pgmedic.Receipt
		counts     bool
	}{
		"a verification":                  {"none", no, receipt(pgmedic.ReceiptVerify, "here", yesterday, pgmedic.ProofVerified), true},
		"hashes alone, and so are ours":   {"age", no, receipt(pgmedic.ReceiptVerify, "here", yesterday, pgmedic.ProofIntact), true},
		"hashes alone, and we can read":   {"age", yes, receipt(pgmedic.ReceiptVerify, "here", yesterday, pgmedic.ProofIntact), false},
		"of a copy":                       {"none", no, receipt(pgmedic.ReceiptVerify, "there", yesterday, pgmedic.ProofVerified), false},
		"a drill":                         {"none", no, receipt(pgmedic.ReceiptDrill, "here", yesterday, pgmedic.ProofProven), false},
		"from the future":                 {"none", no, receipt(pgmedic.ReceiptVerify, "here", now.AddDate(1, 0, 0), pgmedic.ProofVerified), false},
		"of a clock before the backup's ": {"none", no, receipt(pgmedic.ReceiptVerify, "here", night.AddDate(-1, 0, 0), pgmedic.ProofVerified), false},
	} {
		t.Run(name, func(t *testing.T) {
			e := stored(0, test.encryption, 10, 10)
			e.Receipts = []pgmedic.Receipt{test.receipt}
			parts := drill.ChooseSample(drill.SampleOptions{Entries: []catalog.Entry{e}, Percent: 1, Store: "here", HasKey: test.hasKey, Now: now})
			want := "pack-0001" // the first of two that were not read
			if test.counts {
				want = "pack-0002"
			}
			if got := parts[0].Objects; len(got) != 1 || got[0].Name != want {
				t.Errorf("chose %v, want %s", got, want)
			}
		})
	}
	// One whose clock was ahead is not passed over until then.
	early, ahead := stored(9, "none", 10), stored(900, "none", 10)
	parts := drill.ChooseSample(drill.SampleOptions{Entries: []catalog.Entry{early, ahead}, Percent: 1, Store: "here", HasKey: no, Now: now})
	if parts[0] != nil || parts[1] == nil {
		t.Errorf("chose %v", parts)
	}
	if parts := drill.ChooseSample(drill.SampleOptions{Percent: 5, HasKey: no, Now: now}); len(parts) != 0 {
		t.Errorf("of nothing: %v", parts)
	}
}

func TestParsePercent(t *testing.T) {
	for text, want := range map[string]float64{"5%": 5, "5": 5, "0.5%": 0.5, "100%": 100, "7 %": 7} {
		if got, err := drill.ParsePercent(text); err != nil || got != want {
			t.Errorf("%q is %v: %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "0", "0%", "-1%", "101%", "five", "NaN", "Inf", "5%%", "1e9"} {
		if _, err := drill.ParsePercent(text); pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestVerifySample reads object after object, finds damage when its turn comes,
// and proves nothing.
func TestVerifySample(t *testing.T) {
	c, b, folder := clinic(t)
	now := time.Now()
	sample := func() *pgmedic.Receipt {
		t.Helper()
		now = now.Add(time.Hour)
		e, err := c.Get(t.Context(), b.ID, catalog.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		parts := drill.ChooseSample(drill.SampleOptions{Entries: []catalog.Entry{e}, Percent: 0.001, Store: fmt.Sprint(c.Store()), HasKey: no, Now: now})
		r, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Sample: parts[0], Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Sample; s == nil || s.Objects != 1 || s.OfObjects != len(b.Objects) || s.Bytes == 0 || s.OfBytes != b.StoredBytes() || s.Degree != pgmedic.ProofVerified {
			t.Errorf("the receipt says %+v", s)
		}
		return r
	}
	read := map[string]int{}
	for range b.Objects {
		read[sample().Checks[0].Name]++
	}
	for _, o := range b.Objects {
		if read[o.Name] != 1 {
			t.Errorf("%s was read %d times in %d runs", o.Name, read[o.Name], len(b.Objects))
		}
	}
	wantProof(t, c, b, pgmedic.ProofTaken, len(b.Objects))

	path := filepath.Join(folder, b.Objects[0].Name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := sample(); r.Outcome != pgmedic.OutcomeFailed || r.Proof != pgmedic.ProofFailed {
		t.Errorf("damage: %s", r.Outcome)
	}
	sample()
	wantProof(t, c, b, pgmedic.ProofFailed, len(b.Objects)+2)
}

// TestVerifyKeys: a backup that nobody can open again is not intact, whatever
// the hashes say, and it takes no key to see it.
func TestVerifyKeys(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE t AS SELECT n FROM generate_series(1, 50) AS n")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := fixture.NewCatalogIn(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.Seal.Encryption = seal.EncryptionAge
	o.Wraps = []seal.Wrap{{Name: "one", To: id.Recipient()}}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	verify := func() *pgmedic.Receipt {
		t.Helper()
		r, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(); r.Proof != pgmedic.ProofIntact || r.Checks[0].Name != "keys" || r.Checks[0].Detail != "1 way to open it" {
		t.Errorf("with a key: %s %+v", r.Proof, r.Checks[0])
	}
	if err := c.RemoveKey(t.Context(), b, "one"); err != nil {
		t.Fatal(err)
	}
	for name, junk := range map[string]string{"none": "", "junk": "not a wrap"} {
		if junk != "" {
			if err := c.AddKey(t.Context(), b, "one", []byte(junk)); err != nil {
				t.Fatal(err)
			}
		}
		r := verify()
		if check, failed := r.Failed(); !failed || check.Name != "keys" || check.Hint == "" || !strings.Contains(check.Detail, "can no longer be read") {
			t.Errorf("%s: %s %+v", name, r.Outcome, check)
		}
		_ = c.RemoveKey(t.Context(), b, "one")
	}
	wantProof(t, c, b, pgmedic.ProofFailed, 3)
}
