package catalog_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

func TestListAmongForeignFiles(t *testing.T) {
	f := newFixture(t)
	one, two := f.commit(t, backup(1)), backup(2)
	two.Server.Name = "other"
	f.commit(t, two)
	three := backup(3)
	three.Database.Name = "shop.old"
	f.commit(t, three)
	for _, key := range []string{
		"README.txt", "main/notes.txt", "main/shop/notes.txt", "main/shop/20261122T120000Z/manifest.json",
		"main/shop/20261122T120000Z-XYZ123/manifest.json", "main/shop/deeper/20261122T120000Z-abcdef/manifest.json",
		"20261122T120000Z-abcdef/manifest.json",
	} {
		f.put(t, key, "not ours")
	}
	for name, test := range map[string]struct {
		filter catalog.Filter
		want   []*pgmedic.Backup
	}{
		"all":                     {catalog.Filter{}, []*pgmedic.Backup{three, two, one}},
		"a server":                {catalog.Filter{Server: "main"}, []*pgmedic.Backup{three, one}},
		"a database":              {catalog.Filter{Database: "shop"}, []*pgmedic.Backup{two, one}},
		"both":                    {catalog.Filter{Server: "main", Database: "shop"}, []*pgmedic.Backup{one}},
		"neither":                 {catalog.Filter{Server: "mai"}, nil},
		"the beginning of a name": {catalog.Filter{Database: "sho"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := f.list(t, test.filter)
			var want []string
			for _, b := range test.want {
				want = append(want, b.ID)
			}
			if ids(l) != strings.Join(want, " ") || len(l.Damaged)+len(l.Orphans) != 0 {
				t.Errorf("listed %s and %v %v, want %s", ids(l), l.Damaged, l.Orphans, want)
			}
		})
	}
}

func TestDamaged(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(*testing.T, fixture, *pgmedic.Backup)
		kind   pgmedic.Kind
		want   string
	}{
		"truncated": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			overwrite(t, f.file(b, "manifest.json"), func(d []byte) []byte { return d[:len(d)/2] })
		}, pgmedic.KindIntegrity, "recorded hash"},
		"a bit flipped": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			overwrite(t, f.file(b, "manifest.json"), func(d []byte) []byte { d[len(d)/2] ^= 1; return d })
		}, pgmedic.KindIntegrity, "recorded hash"},
		"emptied": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			overwrite(t, f.file(b, "manifest.json"), func([]byte) []byte { return nil })
		}, pgmedic.KindIntegrity, "recorded hash"},
		"hash missing": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			if err := os.Remove(f.file(b, "manifest.json.sha256")); err != nil {
				t.Fatal(err)
			}
		}, pgmedic.KindIntegrity, "hash is missing"},
		"hash flipped": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			overwrite(t, f.file(b, "manifest.json.sha256"), func(d []byte) []byte { d[3] ^= 1; return d })
		}, pgmedic.KindIntegrity, "recorded hash"},
		"hash huge": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			overwrite(t, f.file(b, "manifest.json.sha256"), func(d []byte) []byte { return append(d, bytes.Repeat([]byte("x"), 2000)...) })
		}, pgmedic.KindIntegrity, "larger than"},
		"another backup's": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			other := f.commit(t, backup(7))
			manifest, err := os.ReadFile(f.file(other, "manifest.json"))
			if err != nil {
				t.Fatal(err)
			}
			f.rewrite(t, b, manifest)
			if err := f.Store().Delete(t.Context(), catalog.Key(other, "manifest.json")); err != nil {
				t.Fatal(err)
			}
		}, pgmedic.KindIntegrity, "that of backup " + backup(7).ID},
		"another database's": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			moved := *b
			moved.Database.Name = "elsewhere"
			f.rewrite(t, b, marshal(t, moved))
		}, pgmedic.KindIntegrity, "that of backup"},
		"not JSON":    {func(t *testing.T, f fixture, b *pgmedic.Backup) { f.rewrite(t, b, []byte("hello")) }, pgmedic.KindIntegrity, "not valid JSON"},
		"other JSON":  {func(t *testing.T, f fixture, b *pgmedic.Backup) { f.rewrite(t, b, []byte("{}")) }, pgmedic.KindIntegrity, "not one"},
		"wrong types": {func(t *testing.T, f fixture, b *pgmedic.Backup) { f.rewrite(t, b, []byte(`{"format":1,"id":7}`)) }, pgmedic.KindIntegrity, "not one"},
		"of a later pgmedic": {func(t *testing.T, f fixture, b *pgmedic.Backup) {
			f.rewrite(t, b, []byte(`{"format":4,"id":["all","new"]}`))
		}, pgmedic.KindUsage, "has format 4"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			older, b := f.commit(t, backup(1)), f.commit(t, backup(2))
			test.damage(t, f, b)
			l := f.list(t, catalog.Filter{})
			if ids(l) != older.ID || len(l.Damaged) != 1 || l.Damaged[0].ID != b.ID || !strings.Contains(l.Damaged[0].Reason, test.want) {
				t.Fatalf("listed %s, damaged %+v", ids(l), l.Damaged)
			}
			for _, ref := range []string{b.ID, "000002", catalog.Latest} {
				_, err := f.Get(t.Context(), ref, catalog.Filter{})
				if pgmedic.KindOf(err) != test.kind || err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: %s: %v", ref, pgmedic.KindOf(err), err)
				}
				if ref == catalog.Latest && !strings.Contains(pgmedic.HintOf(err), older.ID) {
					t.Errorf("the hint names no older one: %s", pgmedic.HintOf(err))
				}
			}
			if e, err := f.Get(t.Context(), older.ID, catalog.Filter{}); err != nil || e.Backup.ID != older.ID {
				t.Errorf("the sound one: %v", err)
			}
		})
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGet(t *testing.T) {
	f := newFixture(t)
	one, two := f.commit(t, backup(1)), f.commit(t, backup(2))
	safety := backup(3)
	safety.Purpose = pgmedic.PurposeSafety
	f.commit(t, safety)
	damaged := f.commit(t, backup(0))
	overwrite(t, f.file(damaged, "manifest.json"), func(d []byte) []byte { return d[1:] })
	for name, test := range map[string]struct {
		ref  string
		want string
		kind pgmedic.Kind
	}{
		"whole id":                      {one.ID, one.ID, 0},
		"hex":                           {"000002", two.ID, 0},
		"beginning":                     {"20261122T1201", one.ID, 0},
		"latest is no safety backup":    {catalog.Latest, two.ID, 0},
		"a safety backup by its id":     {safety.ID, safety.ID, 0},
		"ambiguous":                     {"20261122", "", pgmedic.KindUsage},
		"ambiguous though one is wrong": {"20261122T12", "", pgmedic.KindUsage},
		"nothing":                       {"", "", pgmedic.KindNotFound},
		"unknown":                       {"20251122", "", pgmedic.KindNotFound},
		"part of the hex":               {"0002", "", pgmedic.KindNotFound},
		"damaged":                       {"000000", "", pgmedic.KindIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := f.Get(t.Context(), test.ref, catalog.Filter{})
			switch {
			case test.want != "" && (err != nil || e.Backup.ID != test.want):
				t.Errorf("got %v %v", e.Backup, err)
			case test.want == "" && (err == nil || pgmedic.KindOf(err) != test.kind):
				t.Errorf("got %s: %v", pgmedic.KindOf(err), err)
			}
		})
	}
	_, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{Database: "none"})
	if pgmedic.KindOf(err) != pgmedic.KindNotFound || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("got %v", err)
	}
}

// TestSameSecond: within one second the ids say nothing, the manifests do.
func TestSameSecond(t *testing.T) {
	f := newFixture(t)
	first, second := backup(1), backup(1)
	first.ID = first.ID[:17] + "ffffff"
	second.ID = second.ID[:17] + "000000"
	second.StartedAt = first.StartedAt.Add(300 * time.Millisecond)
	f.commit(t, second)
	f.commit(t, first)
	if got, want := ids(f.list(t, catalog.Filter{})), second.ID+" "+first.ID; got != want {
		t.Errorf("listed %s, want %s", got, want)
	}
	if e, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{}); err != nil || e.Backup.ID != second.ID {
		t.Errorf("latest is %v %v", e.Backup, err)
	}
	// Which of the two is newer can't be known once one is damaged.
	overwrite(t, f.file(second, "manifest.json"), func(d []byte) []byte { return d[1:] })
	if _, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{}); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		t.Errorf("latest: %v", err)
	}
}

func TestReceipts(t *testing.T) {
	f := newFixture(t)
	b := f.commit(t, backup(1))
	receipt := func(id string, format int, at time.Time) *pgmedic.Receipt {
		return &pgmedic.Receipt{Format: format, Kind: pgmedic.ReceiptVerify, BackupID: id, At: at, Outcome: pgmedic.OutcomeOK, Proof: pgmedic.ProofVerified}
	}
	early, late := noon.Add(time.Hour), noon.Add(time.Hour+time.Nanosecond)
	for _, r := range []*pgmedic.Receipt{
		receipt(b.ID, 1, late), receipt(b.ID, 1, early), receipt("20261122T120000Z-ffffff", 1, noon), receipt(b.ID, 2, noon.Add(1)),
	} {
		if err := f.AddReceipt(t.Context(), b, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"broken.json": "{", "empty.json": "", "null.json": "null", "notes.txt": "x", "list.json": "[]",
		"bare.json": `{"backup_id":"` + b.ID + `","kind":"drill","at":"2027-01-01T00:00:00Z"}`,
	} {
		f.put(t, catalog.Key(b, "receipts/"+name), text)
	}
	e, err := f.Get(t.Context(), b.ID, catalog.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Receipts) != 2 || !e.Receipts[0].At.Equal(early) || !e.Receipts[1].At.Equal(late) {
		t.Errorf("receipts: %+v", e.Receipts)
	}
	if proof, at := e.Proof(); proof != pgmedic.ProofVerified || !at.Equal(late) {
		t.Errorf("proof is %s at %s", proof, at)
	}
	if err := f.AddReceipt(t.Context(), b, receipt(b.ID, 1, late), nil); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("a receipt was overwritten: %v", err)
	}
}

func TestProof(t *testing.T) {
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	add := func(kind pgmedic.ReceiptKind, n int, outcome pgmedic.Outcome, proof pgmedic.Proof) pgmedic.Receipt {
		return pgmedic.Receipt{Kind: kind, At: at(n), Outcome: outcome, Proof: proof}
	}
	drill := func(n int) pgmedic.Receipt {
		return add(pgmedic.ReceiptDrill, n, pgmedic.OutcomeOK, pgmedic.ProofProven)
	}
	badDrill := func(n int) pgmedic.Receipt {
		return add(pgmedic.ReceiptDrill, n, pgmedic.OutcomeFailed, pgmedic.ProofFailed)
	}
	verify := func(n int) pgmedic.Receipt {
		return add(pgmedic.ReceiptVerify, n, pgmedic.OutcomeOK, pgmedic.ProofVerified)
	}
	badVerify := func(n int) pgmedic.Receipt {
		return add(pgmedic.ReceiptVerify, n, pgmedic.OutcomeFailed, pgmedic.ProofFailed)
	}
	for name, test := range map[string]struct {
		receipts []pgmedic.Receipt
		want     pgmedic.Proof
		since    time.Time
		drilled  int // when the last drill that proved it was, or zero
	}{
		"nothing known":                         {nil, pgmedic.ProofTaken, at(0), 0},
		"a restore proves nothing":              {[]pgmedic.Receipt{add(pgmedic.ReceiptRestore, 1, pgmedic.OutcomeOK, pgmedic.ProofProven)}, pgmedic.ProofTaken, at(0), 0},
		"intact":                                {[]pgmedic.Receipt{add(pgmedic.ReceiptVerify, 1, pgmedic.OutcomeOK, pgmedic.ProofIntact)}, pgmedic.ProofIntact, at(1), 0},
		"verified":                              {[]pgmedic.Receipt{verify(1)}, pgmedic.ProofVerified, at(1), 0},
		"verified again":                        {[]pgmedic.Receipt{badVerify(1), verify(2)}, pgmedic.ProofVerified, at(2), 0},
		"found damaged":                         {[]pgmedic.Receipt{verify(1), badVerify(2)}, pgmedic.ProofFailed, at(2), 0},
		"proven":                                {[]pgmedic.Receipt{verify(1), drill(2)}, pgmedic.ProofProven, at(2), 2},
		"a later verify takes nothing away":     {[]pgmedic.Receipt{drill(1), verify(2)}, pgmedic.ProofProven, at(1), 1},
		"damaged after a drill":                 {[]pgmedic.Receipt{drill(1), badVerify(2)}, pgmedic.ProofFailed, at(2), 1},
		"a drill after damage":                  {[]pgmedic.Receipt{badVerify(1), drill(2)}, pgmedic.ProofProven, at(2), 2},
		"a failed drill":                        {[]pgmedic.Receipt{drill(1), badDrill(2)}, pgmedic.ProofFailed, at(2), 1},
		"a verify does not mend a failed drill": {[]pgmedic.Receipt{badDrill(1), verify(2)}, pgmedic.ProofFailed, at(1), 0},
		"a drill mends a failed drill":          {[]pgmedic.Receipt{badDrill(1), drill(2)}, pgmedic.ProofProven, at(2), 2},
		"verified after damage after a drill":   {[]pgmedic.Receipt{drill(1), badVerify(2), verify(3)}, pgmedic.ProofProven, at(1), 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := backup(0)
			b.FinishedAt = at(0)
			e := catalog.Entry{Backup: b, Receipts: test.receipts}
			if proof, since := e.Proof(); proof != test.want || !since.Equal(test.since) {
				t.Errorf("%s since %s, want %s since %s", proof, since, test.want, test.since)
			}
			last, ok := e.LastDrill()
			if ok != (test.drilled > 0) || ok && !last.At.Equal(at(test.drilled)) {
				t.Errorf("last drill %t %s", ok, last.At)
			}
		})
	}
}
